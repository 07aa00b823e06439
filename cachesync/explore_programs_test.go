package cachesync

// Parties of programs. A writer's rows and keys are the first ones unless a program says otherwise.

func writes(k kind) process { return process{kind: k, rows: []int{0}, keys: []int{0}} }

func (p process) mayFail() process           { p.fails = true; return p }
func (p process) queueing() process          { p.queue = true; return p }
func (p process) asking() process            { p.asks = true; return p }
func (p process) behind() process            { p.async = true; return p }
func (p process) bareWriter() process        { p.bare = true; return p }
func (p process) to(keys ...int) process     { p.keys = keys; return p }
func (p process) ofRows(rows ...int) process { p.rows = rows; return p }

func readsKey(k int) process { return process{kind: reader, keys: []int{k}} }

var (
	lockFirstWriter  = writes(lockFirst)
	fenceFirstWriter = writes(fenceFirst)
	eventualWriter   = writes(eventual)
	foreignWriter    = writes(foreign)
	coarseWriter     = writes(coarse)
	aReader          = readsKey(0)
	aFollower        = process{kind: follower}
)

// Layouts: the rows that each key shows.
var (
	oneKey   = [][]int{{0}}
	twoKeys  = [][]int{{0}, {0}} // two entries of one row
	twoRows  = [][]int{{0}, {1}}
	oneKeyOf = [][]int{{0, 1}} // a key that two rows share
)

// basePrograms are those whose every property holds, by what they are about.
func basePrograms() []program {
	twoWriters := []process{lockFirstWriter.mayFail(), fenceFirstWriter.mayFail(), aReader}
	return append([]program{
		{name: "two writers, two readers", keys: oneKey, props: allProperties,
			procs: append(twoWriters, aReader), faults: faults{crash: 1, doubt: 1, expiry: outlive, abandon: true}},
		{name: "lock first twice, killed twice", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter, lockFirstWriter, aReader, aReader}, faults: faults{crash: 2, expiry: outlive, evict: true}},
		{name: "fence first twice", keys: oneKey, props: allProperties,
			procs: []process{fenceFirstWriter.mayFail(), fenceFirstWriter, aReader}, faults: faults{crash: 1, doubt: 1, expiry: outlive}},
		{name: "late requests", keys: oneKey, props: allProperties,
			procs: twoWriters, faults: faults{late: 2}},
		{name: "in doubt, asking", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter.asking(), lockFirstWriter.asking().mayFail(), aReader}, faults: faults{doubt: 2, expiry: outlive}},
		{name: "in doubt, asking, late requests", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter.asking(), fenceFirstWriter, aReader}, faults: faults{doubt: 1, late: 1, expiry: outlive}},
		{name: "three writers", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter.mayFail(), lockFirstWriter, fenceFirstWriter, aReader}, faults: faults{crash: 1}},
		{name: "three writers, in doubt", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter, fenceFirstWriter, fenceFirstWriter, aReader}, faults: faults{crash: 1, doubt: 1, expiry: outlive}},
		{name: "three lock first", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter, lockFirstWriter, lockFirstWriter, aReader}, faults: faults{crash: 1, doubt: 1, expiry: outlive}},
		{name: "three fence first", keys: oneKey, props: allProperties,
			procs: []process{fenceFirstWriter, fenceFirstWriter, fenceFirstWriter, aReader}, faults: faults{crash: 1, doubt: 1, expiry: outlive}},
		{name: "killed, in doubt and late", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter, fenceFirstWriter, aReader}, faults: faults{crash: 1, doubt: 1, late: 1, expiry: outlive}},
		{name: "with and without payload, killed", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter, lockFirstWriter.bareWriter(), aReader}, faults: faults{crash: 1, expiry: outlive}},
		{name: "fences vanish, late requests", keys: oneKey, props: trueWhenQuiet,
			procs: []process{lockFirstWriter, aReader}, faults: faults{late: 1, vanish: true}},
		{name: "a writer without payload", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter.bareWriter(), fenceFirstWriter, lockFirstWriter.mayFail(), aReader}},
		{name: "two keys of one row", keys: twoKeys, props: allProperties,
			procs: []process{lockFirstWriter.to(0, 1).mayFail(), fenceFirstWriter.to(0, 1), aReader, readsKey(1)}, faults: faults{crash: 1}},
		{name: "two rows", keys: twoRows, props: allProperties,
			procs: []process{lockFirstWriter.ofRows(0, 1).to(0, 1), fenceFirstWriter, lockFirstWriter.ofRows(1).to(1).mayFail(), aReader, readsKey(1)}},
		{name: "a key that two rows share", keys: oneKeyOf, props: allProperties,
			procs:  []process{lockFirstWriter.bareWriter(), fenceFirstWriter.ofRows(1).bareWriter(), aReader, aReader},
			faults: faults{crash: 1, doubt: 1, expiry: outlive}},
		{name: "coarse and precise", keys: oneKey, props: allProperties,
			procs: []process{coarseWriter.mayFail(), lockFirstWriter, aReader, aReader}, faults: faults{crash: 1}},
		{name: "coarse and fence first", keys: oneKey, props: allProperties,
			procs: []process{coarseWriter, fenceFirstWriter.mayFail(), aReader}, faults: faults{crash: 1, doubt: 1, expiry: outlive, evict: true}},
		{name: "coarse twice", keys: oneKey, props: allProperties,
			procs: []process{coarseWriter.mayFail(), coarseWriter, aReader}, faults: faults{crash: 1, expiry: outlive}},
		{name: "coarse, late requests", keys: oneKey, props: allProperties,
			procs: []process{coarseWriter, lockFirstWriter, aReader}, faults: faults{late: 1, expiry: outlive}},
		{name: "coarse in doubt, asking", keys: oneKey, props: allProperties,
			procs: []process{coarseWriter.asking(), aReader, aReader}, faults: faults{doubt: 1, expiry: outlive}},
		{name: "coarse, two keys", keys: twoRows, props: allProperties,
			procs: []process{coarseWriter.ofRows(0, 1).to(0, 1), fenceFirstWriter, aReader, readsKey(1)}},
		{name: "foreign writer with follower", keys: oneKey, props: allProperties,
			procs: []process{foreignWriter, lockFirstWriter.mayFail(), aFollower, aReader}, faults: faults{crash: 1, expiry: outlive}},
		{name: "foreign writer, fence first, late requests", keys: oneKey, props: allProperties,
			procs: []process{foreignWriter, fenceFirstWriter, aFollower, aReader}, faults: faults{late: 1}},
		{name: "foreign writer twice", keys: oneKey, props: allProperties,
			procs: []process{foreignWriter.mayFail(), foreignWriter, lockFirstWriter, aFollower, aReader}},
		{name: "eventual", keys: oneKey, props: freshReturned | trueWhenQuiet,
			procs: []process{eventualWriter.mayFail(), eventualWriter, aReader, aReader}, faults: faults{doubt: 1, expiry: outlive, evict: true, abandon: true}},
		{name: "eventual, killed", keys: oneKey, props: freshReturned,
			procs: []process{eventualWriter.mayFail(), eventualWriter, eventualWriter, aReader, aReader}, faults: faults{crash: 2}},
		{name: "eventual, late requests", keys: oneKey, props: trueWhenQuiet,
			procs: []process{eventualWriter.mayFail(), eventualWriter, aReader, aReader}, faults: faults{late: 1, expiry: outlive, evict: true}},
		{name: "eventual and strict", keys: oneKey, props: allProperties,
			procs: []process{eventualWriter, lockFirstWriter.mayFail(), fenceFirstWriter, aReader}},
		{name: "eventual and strict, late requests", keys: oneKey, props: freshAcked | freshVisible | trueWhenQuiet,
			procs: []process{eventualWriter, lockFirstWriter, aReader}, faults: faults{late: 1, doubt: 1, expiry: outlive}},
		{name: "eventual and coarse", keys: oneKey, props: allProperties,
			procs: []process{eventualWriter, coarseWriter, aReader, aReader}},
		{name: "eventual with follower", keys: oneKey, props: trueWhenQuiet,
			procs: []process{eventualWriter, eventualWriter, aFollower, aReader}, faults: faults{crash: 1, late: 1}},
		{name: "Redis down, queued", keys: oneKey, props: trueWhenQuiet,
			procs: []process{lockFirstWriter.queueing(), fenceFirstWriter.queueing(), aReader}, faults: faults{late: 1, expiry: outlive}},
		{name: "Redis down, coarse, queued", keys: oneKey, props: trueWhenQuiet,
			procs: []process{coarseWriter.queueing(), lockFirstWriter, aReader}, faults: faults{late: 1}},
		{name: "coarse, fences vanish", keys: oneKey, props: freshReturned | trueWhenQuiet,
			procs: []process{coarseWriter, aReader, aReader}, faults: faults{expiry: anytime, vanish: true}},
		{name: "coarse, fences vanish, late requests", keys: oneKey, props: freshReturned | trueWhenQuiet,
			procs: []process{coarseWriter, aReader}, faults: faults{late: 1, vanish: true}},
		{name: "coarse, Redis restarts empty", keys: oneKey, props: freshReturned | trueWhenQuiet,
			procs: []process{coarseWriter, fenceFirstWriter, aReader}, faults: faults{restart: 1}},
		{name: "fences vanish", keys: oneKey, props: freshReturned | trueWhenQuiet,
			procs: []process{lockFirstWriter.mayFail(), fenceFirstWriter, aReader}, faults: faults{expiry: anytime, vanish: true}},
		{name: "Redis restarts empty", keys: oneKey, props: freshReturned | trueWhenQuiet,
			procs: []process{lockFirstWriter, fenceFirstWriter.mayFail(), aReader, aReader}, faults: faults{restart: 1}},
		{name: "apply: async", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter.mayFail().behind(), fenceFirstWriter.behind(), aReader, aReader}, faults: faults{crash: 1, doubt: 1, expiry: outlive, abandon: true, evict: true}},
		{name: "apply: async, late requests", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter.behind(), fenceFirstWriter.mayFail().behind(), aReader}, faults: faults{late: 2, expiry: outlive}},
		{name: "apply: async beside others", keys: oneKey, props: allProperties,
			procs: []process{fenceFirstWriter.behind(), lockFirstWriter.mayFail(), coarseWriter, aReader}, faults: faults{expiry: outlive}},
		{name: "apply: async, eventual", keys: oneKey, props: trueWhenQuiet,
			procs: []process{eventualWriter.mayFail().behind(), eventualWriter.behind(), aReader, aReader}, faults: faults{doubt: 1, late: 1, expiry: outlive}},
		{name: "owners die in doubt", keys: oneKey, props: freshAcked | freshReturned,
			procs: []process{lockFirstWriter, fenceFirstWriter, aReader}, faults: faults{crash: 1, doubt: 1, expiry: deadOnly}},
	}, append(sharingPrograms(), pastPrograms()...)...)
}

// longPrograms take half an hour together, and gigabytes. Their counts stand in docs/PROTOCOL.md.
func longPrograms() []program {
	lock, fence := lockFirstWriter.mayFail(), fenceFirstWriter.mayFail()
	asking := lockFirstWriter.asking()
	return append(longPastPrograms(), []program{
		{name: "long: three writers, two readers", keys: oneKey, props: allProperties,
			procs: []process{lock, lockFirstWriter, fence, aReader, aReader}, faults: faults{crash: 1, doubt: 1, expiry: outlive}},
		{name: "long: two writers, three readers, anything twice", keys: oneKey, props: allProperties,
			procs: []process{lock, fence, aReader, aReader, aReader}, faults: faults{crash: 2, doubt: 2, expiry: outlive, abandon: true, evict: true}},
		{name: "long: three lock first", keys: oneKey, props: allProperties,
			procs: []process{lock, lock, lockFirstWriter, aReader}, faults: faults{crash: 1, doubt: 1, expiry: outlive}},
		{name: "long: three fence first", keys: oneKey, props: allProperties,
			procs: []process{fence, fence, fenceFirstWriter, aReader}, faults: faults{crash: 1, doubt: 1, expiry: outlive}},
		{name: "long: four writers", keys: oneKey, props: allProperties,
			procs: []process{lock, lockFirstWriter, fence, fenceFirstWriter, aReader}, faults: faults{crash: 1}},
		{name: "long: two late requests, expiry", keys: oneKey, props: allProperties,
			procs: []process{lock, fence, aReader, aReader}, faults: faults{late: 2, expiry: outlive}},
		{name: "long: three writers, late requests", keys: oneKey, props: allProperties,
			procs: []process{lockFirstWriter, lock, fence, aReader}, faults: faults{late: 1, crash: 1, expiry: outlive}},
		{name: "long: three late requests", keys: oneKey, props: allProperties,
			procs: []process{lock, fenceFirstWriter, aReader}, faults: faults{late: 3}},
		{name: "long: in doubt, asking", keys: oneKey, props: allProperties,
			procs: []process{asking, asking.mayFail(), fence, aReader, aReader}, faults: faults{doubt: 2, crash: 1, expiry: outlive}},
		{name: "long: in doubt, asking, late requests", keys: oneKey, props: allProperties,
			procs: []process{asking, asking.mayFail(), aReader, aReader}, faults: faults{doubt: 1, late: 1, crash: 1, expiry: outlive}},
		{name: "long: coarse, precise, fence first", keys: oneKey, props: allProperties,
			procs: []process{coarseWriter.mayFail(), lockFirstWriter, fence, aReader, aReader}, faults: faults{crash: 1, expiry: outlive}},
		{name: "long: coarse, all faults", keys: oneKey, props: allProperties,
			procs: []process{coarseWriter.mayFail().asking(), lock, aReader, aReader}, faults: faults{crash: 1, doubt: 1, late: 1, expiry: outlive, abandon: true}},
		{name: "long: coarse twice and precise", keys: oneKey, props: allProperties,
			procs: []process{coarseWriter, coarseWriter.mayFail(), lockFirstWriter, aReader, aReader}, faults: faults{crash: 1}},
		{name: "long: coarse, two keys", keys: twoRows, props: allProperties,
			procs: []process{coarseWriter.ofRows(0, 1).to(0, 1), fence, aReader, readsKey(1)}, faults: faults{crash: 1, expiry: outlive}},
		{name: "long: coarse, two keys, fences vanish", keys: twoRows, props: freshReturned | trueWhenQuiet,
			procs: []process{coarseWriter.ofRows(0, 1).to(0, 1), fenceFirstWriter, aReader, readsKey(1)}, faults: faults{expiry: anytime, vanish: true}},
		{name: "long: a key that two rows share", keys: oneKeyOf, props: allProperties,
			procs: []process{lock.bareWriter(), fence.bareWriter(), lockFirstWriter.ofRows(1).bareWriter(), aReader, aReader}, faults: faults{crash: 1, doubt: 1, expiry: outlive}},
		{name: "long: two rows, two keys", keys: twoRows, props: allProperties,
			procs: []process{lock.ofRows(0, 1).to(0, 1), fence, lockFirstWriter.ofRows(1).to(1), aReader, readsKey(1)}, faults: faults{crash: 1, late: 1}},
		{name: "long: everybody", keys: oneKey, props: freshReturned | trueWhenQuiet,
			procs: []process{lock, fenceFirstWriter, eventualWriter, foreignWriter, aFollower, aReader}, faults: faults{}},
		{name: "long: foreign writers, follower, late requests", keys: oneKey, props: allProperties,
			procs: []process{foreignWriter, lock, fenceFirstWriter, aFollower, aReader}, faults: faults{late: 1, crash: 1, expiry: outlive}},
		{name: "long: eventual and strict", keys: oneKey, props: allProperties,
			procs: []process{eventualWriter.mayFail(), eventualWriter, lock, fenceFirstWriter, aReader, aReader}, faults: faults{}},
		{name: "long: eventual, late requests", keys: oneKey, props: trueWhenQuiet,
			procs: []process{eventualWriter.mayFail(), eventualWriter, eventualWriter, aReader, aReader}, faults: faults{late: 2, expiry: outlive}},
		{name: "long: fences vanish", keys: oneKey, props: freshReturned | trueWhenQuiet,
			procs: []process{lock, lockFirstWriter, fenceFirstWriter, aReader}, faults: faults{vanish: true, expiry: anytime}},
		{name: "long: Redis down, coarse, queued", keys: oneKey, props: trueWhenQuiet,
			procs: []process{coarseWriter.queueing(), lock, aReader, aReader}, faults: faults{late: 1, expiry: outlive}},
		{name: "long: Redis down, queued", keys: oneKey, props: trueWhenQuiet,
			procs: []process{lock.queueing(), fence.queueing(), aReader, aReader}, faults: faults{late: 2, expiry: outlive}},
	}...)
}
