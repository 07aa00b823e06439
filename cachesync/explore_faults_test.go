package cachesync

import "testing"

// faultRow is a row of the table of guarantees in docs/PROTOCOL.md: what holds under its faults, and what does not.
type faultRow struct {
	name   string
	teams  [][]process // what holds must hold with each; what does not must be violated by the first
	faults faults
	holds  property
	breaks property
}

var (
	preciseTeam    = []process{lockFirstWriter, fenceFirstWriter, aReader}
	asyncTeam      = []process{lockFirstWriter.behind(), fenceFirstWriter.behind(), aReader}
	coarseTeam     = []process{coarseWriter, lockFirstWriter, aReader}
	pastTeam       = []process{lockFirstWriter.pastRedis(0), fenceFirstWriter, aReader, aWatch, aDrainer}
	pastCoarseTeam = []process{coarseWriter.pastRedis(0), aReader, aWatch, aDrainer}
	mixedTeams     = [][]process{preciseTeam, coarseTeam}
	eventuals      = []process{eventualWriter.mayFail(), eventualWriter, aReader}
	followed       = []process{eventualWriter.mayFail(), eventualWriter, aReader, aFollower}
)

var faultTable = []faultRow{
	{name: "crashes, in-doubt COMMITs, late requests; fences outlive their COMMITs", teams: mixedTeams,
		faults: faults{crash: 1, doubt: 1, late: 1, expiry: outlive}, holds: allProperties},
	{name: "a fence expires while its dead owner's COMMIT is in flight", teams: mixedTeams,
		faults: faults{crash: 1, doubt: 1, expiry: deadOnly}, holds: freshAcked | freshReturned, breaks: freshVisible | trueWhenQuiet},
	{name: "fences vanish", teams: [][]process{preciseTeam, {coarseWriter, aReader, aReader}},
		faults: faults{vanish: true, expiry: anytime}, holds: freshReturned | trueWhenQuiet, breaks: freshAcked | freshVisible},
	{name: "fences vanish, with a crash", teams: [][]process{preciseTeam, {coarseWriter, aReader}},
		faults: faults{vanish: true, expiry: anytime, crash: 1}, holds: freshReturned, breaks: freshAcked | freshVisible | trueWhenQuiet},
	{name: "Redis restarts empty", teams: mixedTeams,
		faults: faults{restart: 1}, holds: freshReturned | trueWhenQuiet, breaks: freshAcked | freshVisible},
	{name: "Redis restarts empty, with a crash", teams: mixedTeams,
		faults: faults{restart: 1, crash: 1}, holds: freshReturned, breaks: freshAcked | freshVisible | trueWhenQuiet},
	{name: "Redis restarts empty, with a quarantine", teams: mixedTeams,
		faults: faults{restart: 1, crash: 1, quarantine: true, expiry: outlive}, holds: allProperties},
	{name: "failover to an older state", teams: mixedTeams,
		faults: faults{failover: 1}, breaks: allProperties},
	{name: "failover to an older state, with epochs and a quarantine", teams: mixedTeams,
		faults: faults{failover: 1, crash: 1, doubt: 1, epochs: true, expiry: outlive}, holds: allProperties},
	{name: "failover to an older state, with epochs and a quarantine, late requests", teams: [][]process{{lockFirstWriter, fenceFirstWriter, aReader}},
		faults: faults{failover: 1, late: 1, epochs: true, expiry: outlive}, holds: allProperties},
	{name: "failover, WAIT on the fence, within a token's life", teams: [][]process{preciseTeam},
		faults: faults{failover: 1, crash: 1, wait: true}, holds: allProperties},
	{name: "failover, WAIT on the fence, with renewals", teams: [][]process{preciseTeam},
		faults: faults{failover: 1, expiry: outlive, wait: true}, holds: freshReturned | trueWhenQuiet, breaks: freshAcked | freshVisible},
	{name: "failover, WAIT on the fence and on renewals", teams: [][]process{preciseTeam},
		faults: faults{failover: 1, crash: 1, doubt: 1, expiry: outlive, wait: true, waitRenewals: true}, holds: allProperties},
	{name: "failover, WAIT on the fence and on renewals, coarse", teams: [][]process{coarseTeam},
		faults: faults{failover: 1, expiry: outlive, wait: true, waitRenewals: true}, breaks: allProperties},
	{name: "failover, WAIT on the fence, on renewals and in the walks, coarse", teams: [][]process{coarseTeam},
		faults: faults{failover: 1, crash: 1, doubt: 1, expiry: outlive, wait: true, waitRenewals: true, waitWalks: true}, holds: allProperties},
	{name: "Redis out of reach of a writer", teams: [][]process{pastTeam, pastCoarseTeam},
		faults: faults{crash: 1, doubt: 1, expiry: outlive, paused: true}, holds: allProperties},
	{name: "Redis out of reach of a writer, late requests", teams: [][]process{{lockFirstWriter.pastRedis(0), aReader, aWatch, aDrainer}, pastCoarseTeam},
		faults: faults{crash: 1, late: 1, expiry: outlive, paused: true}, holds: allProperties},
	{name: "Redis out of reach of a writer, readers do not look", teams: [][]process{{lockFirstWriter.pastRedis(0), aReader, aDrainer}},
		faults: faults{crash: 1, doubt: 1, expiry: outlive, paused: true}, holds: trueWhenQuiet, breaks: freshAcked | freshVisible | freshReturned},
	{name: "everything owed, the owner stopped for long", teams: [][]process{{lockFirstWriter.pastRedis(0), aReader, aWatch, aDrainer}},
		faults: faults{doubt: 1, expiry: outlive, everything: true, stopped: true}, holds: trueWhenQuiet, breaks: freshAcked | freshVisible | freshReturned},
	{name: "apply: async, crashes, in-doubt COMMITs, late requests; fences outlive their COMMITs", teams: [][]process{asyncTeam},
		faults: faults{crash: 1, doubt: 1, late: 1, expiry: outlive}, holds: allProperties},
	{name: "apply: async, a fence expires while its dead owner's COMMIT is in flight", teams: [][]process{asyncTeam},
		faults: faults{crash: 1, doubt: 1, expiry: deadOnly}, holds: freshAcked | freshReturned, breaks: freshVisible | trueWhenQuiet},
	{name: "apply: async, fences vanish", teams: [][]process{asyncTeam},
		faults: faults{vanish: true, expiry: anytime}, holds: trueWhenQuiet, breaks: freshAcked | freshVisible | freshReturned},
	{name: "apply: async, Redis restarts empty", teams: [][]process{asyncTeam},
		faults: faults{restart: 1}, holds: trueWhenQuiet, breaks: freshAcked | freshVisible | freshReturned},
	{name: "apply: async, Redis restarts empty, with a quarantine", teams: [][]process{asyncTeam},
		faults: faults{restart: 1, crash: 1, quarantine: true, expiry: outlive}, holds: allProperties},
	{name: "apply: async, failover to an older state, with epochs and a quarantine", teams: [][]process{asyncTeam},
		faults: faults{failover: 1, crash: 1, doubt: 1, epochs: true, expiry: outlive}, holds: allProperties},
	{name: "apply: async, eventual", teams: [][]process{{eventualWriter.mayFail().behind(), eventualWriter.behind(), aReader}},
		faults: faults{doubt: 1, expiry: outlive}, holds: trueWhenQuiet, breaks: freshAcked | freshVisible | freshReturned},
	{name: "eventual", teams: [][]process{eventuals},
		faults: faults{doubt: 1, expiry: outlive}, holds: freshReturned | trueWhenQuiet, breaks: freshAcked | freshVisible},
	{name: "eventual, late requests", teams: [][]process{eventuals},
		faults: faults{late: 1, expiry: outlive}, holds: trueWhenQuiet, breaks: freshAcked | freshVisible | freshReturned},
	{name: "eventual, with a crash", teams: [][]process{eventuals},
		faults: faults{crash: 1}, holds: freshReturned, breaks: freshAcked | freshVisible | trueWhenQuiet},
	{name: "eventual, with a crash and the follower", teams: [][]process{followed},
		faults: faults{crash: 1, late: 1}, holds: trueWhenQuiet, breaks: freshAcked | freshVisible | freshReturned},
}

// Each cell of the table of guarantees: what it promises holds, and what it does not promise can happen, so that the
// table says neither too much nor too little.
func TestExploreFaults(t *testing.T) {
	server := exploreServer(t)
	for _, row := range faultTable {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := program{name: row.name, keys: oneKey, faults: row.faults, judged: true}
			for _, team := range row.teams {
				if row.holds != 0 {
					p.procs, p.props = team, row.holds
					run(t, server, Envelope, p).mustHold(t)
				}
			}
			for bit := freshAcked; bit <= trueWhenQuiet; bit <<= 1 {
				if row.breaks&bit != 0 {
					p.procs, p.props = row.teams[0], bit
					run(t, server, Envelope, p).mustBreak(t)
				}
			}
		})
	}
}

// Each rule of epochs is needed: without it a failover brings readers an old row.
func TestExploreEpochRules(t *testing.T) {
	server := exploreServer(t)
	for name, off := range map[string]faults{
		"a copied fence ends with its payload":              {copiesPay: true},
		"what is stored while a server is young is trusted": {youngTrusted: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			off.failover, off.crash, off.doubt, off.epochs, off.expiry = 1, 1, 1, true, outlive
			run(t, server, Envelope, program{name: name, keys: oneKey, procs: preciseTeam, faults: off, props: allProperties, judged: true}).mustBreak(t)
		})
	}
}
