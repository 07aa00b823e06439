package cachesync

import "testing"

// Programs of readers that share, wait, ask for young values, and read a standby.

func (p process) waiting() process             { p.waits = true; return p }
func (p process) ofYoungValues() process       { p.impatient = true; return p }
func (p process) readingStandby() process      { p.onStandby = true; return p }
func (p program) with(f faults) program        { p.faults = f; return p }
func (p program) on(mode standby) program      { p.standby = mode; return p }
func (p program) flushingLate() program        { p.lazy = true; return p }
func (p program) promising(q property) program { p.props = q; return p }

var (
	aFlight   = process{kind: flight, keys: []int{0}}
	anArrival = process{kind: arrival, keys: []int{0}}
)

func onOneKey(name string, procs ...process) program {
	return program{name: name, keys: oneKey, procs: procs, props: allProperties}
}

func sharingPrograms() []program {
	lock, fence := lockFirstWriter, fenceFirstWriter
	waiting, far := aFlight.waiting(), aFlight.readingStandby()
	shared := onOneKey("flights, a key that two rows share", lock.bareWriter(), fence.ofRows(1).bareWriter(), aFlight, anArrival)
	shared.keys = oneKeyOf
	return append([]program{
		onOneKey("flights", lock, fence.mayFail(), aFlight, anArrival, anArrival).with(faults{crash: 1}),
		onOneKey("flights, in doubt", lock, fence, aFlight, anArrival).with(faults{crash: 1, doubt: 1, expiry: outlive, abandon: true}),
		onOneKey("flights, late requests", lock, fence, aFlight, anArrival).with(faults{late: 1}),
		onOneKey("flights of two processes", lock, fence, waiting, waiting.ofYoungValues(), anArrival),
		onOneKey("flights that wait, young values", lock, waiting.ofYoungValues(), waiting, anArrival).with(faults{expiry: outlive, abandon: true}),
		onOneKey("flights that wait, late requests", lock.bareWriter(), waiting, waiting, anArrival).with(faults{late: 1}),
		onOneKey("flights, coarse", coarseWriter.mayFail(), lock, aFlight, anArrival).with(faults{crash: 1}),
		onOneKey("flights, fences vanish", lock.mayFail(), aFlight, anArrival).promising(freshReturned | trueWhenQuiet).with(faults{expiry: anytime, vanish: true}),
		onOneKey("flights, eventual", eventualWriter, eventualWriter, waiting.ofYoungValues(), anArrival).promising(freshReturned | trueWhenQuiet),
		onOneKey("flights, foreign writer with follower", foreignWriter, lock, aFollower, aFlight.ofYoungValues(), anArrival),
		shared,
		onOneKey("a row that is inserted, deleted and inserted", fence, lock.bareWriter().mayFail(), fence, aFlight, anArrival),
		onOneKey("a standby", lock.mayFail(), fence, far, anArrival).on(lagging),
		onOneKey("fills from a standby", lock.mayFail(), fence, far, far).on(lagging),
		onOneKey("fills from a standby, owners die", lock, fence, far).on(lagging).with(faults{crash: 1, doubt: 1, expiry: outlive}),
		onOneKey("fills from a standby, late requests", lock, fence, far).on(lagging).with(faults{late: 1}),
		onOneKey("a standby, coarse", coarseWriter, lock, far, anArrival).on(lagging),
		onOneKey("a standby, remote_apply", lock, fence.mayFail(), far, anArrival).on(remoteApply).with(faults{crash: 1}),
		onOneKey("fills from a standby, remote_apply", lock.mayFail(), fence, far, far).on(remoteApply),
		onOneKey("a standby, WAL flushed late", lock, far, anArrival).on(lagging).flushingLate(),
	}, standbyAhead()...)
}

// standbyAhead are programs in which a standby may show a commit, and a reader store it, before the primary shows it: no
// fence is in the way.
func standbyAhead() []program {
	far := aFlight.readingStandby()
	programs := []program{
		onOneKey("a standby, eventual", eventualWriter, eventualWriter, far, anArrival).on(lagging).promising(freshReturned | trueWhenQuiet),
		onOneKey("a standby, fences vanish", lockFirstWriter.mayFail(), far, anArrival).on(lagging).
			promising(freshReturned | trueWhenQuiet).with(faults{expiry: anytime, vanish: true}),
		onOneKey("a standby, foreign writer with follower", foreignWriter, lockFirstWriter, aFollower, far, anArrival).on(lagging),
	}
	for i := range programs {
		programs[i].ahead = true
	}
	return programs
}

// sharingRules are broken like the others, in the programs above.
var sharingRules = []brokenRule{
	inClient("a row taken although its fill was refused", "flights", clientRules{refusedFill: true}),
	inClient("a row that nobody stores, joined after it was read", "flights", clientRules{unfilledRow: true}),
	inClient("a stored row, joined after the fill was sent", "flights", clientRules{sentFill: true}),
	inClient("lease's value, joined after the lease was sent", "flights", clientRules{sentLease: true}),
	inClient("a waiting reader asks again under its old nonce", "flights that wait, late requests", clientRules{freshNonces: true}),
	inClient("a waiting reader fills what it read before it was granted", "flights of two processes", clientRules{snapshotAfterLease: true}),
	inClient("a standby that is not waited for", "fills from a standby", clientRules{standbyWaits: true}),
	inClient("a standby that is not waited for under a fence", "a standby", clientRules{bypassWaits: true}),
	inClient("the position asked before the lease", "fills from a standby", clientRules{positionAfterGrant: true}),
	inClient("the position that a fence remembers", "fills from a standby", clientRules{positionNotOfFence: true}),
	inClient("the position of the version that was applied", "fills from a standby", clientRules{positionNotOfVersion: true}),
	inClient("the position that apply leaves after COMMIT", "fills from a standby, owners die", clientRules{positionNotOfApply: true}),
	inClient("the position of the WAL that is flushed", "a standby, WAL flushed late", clientRules{positionOfInsert: true}),
	inClient("a row of a standby, joined after the position was asked", "a standby", clientRules{joinBeforePosition: true}),
	inClient("the barrier is looked at after the position was asked", "a standby, coarse", clientRules{lookBeforePosition: true}),
	inClient("remote_apply whose wait was cancelled", "fills from a standby, remote_apply", clientRules{remoteApplyAwaited: true}),
}

// Where no fence is in the way, an entry can be ahead of the primary, and docs/PROTOCOL.md says so. It is never behind.
func TestExploreStandbyIsAhead(t *testing.T) {
	server := exploreServer(t)
	for _, p := range standbyAhead() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.ahead = false
			run(t, server, Envelope, p).mustBreak(t)
		})
	}
}
