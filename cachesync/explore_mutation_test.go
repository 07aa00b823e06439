package cachesync

import (
	"slices"
	"strings"
	"testing"
)

// mutation is a line of a script that is replaced.
type mutation struct{ file, old, new string }

// mutants gives the scripts that differ from the real ones. A line that is not found exactly once fails the test: else a
// mutation could rot unseen.
func mutants(t testing.TB, mutations []mutation) map[*script]*script {
	t.Helper()
	sources := map[string]string{
		"head": headLua, "prelude": preludeLua, "fence": fenceLua, "renew": renewLua, "apply": applyLua, "abort": abortLua, "lease": leaseLua,
		"fill": fillLua, "release": releaseLua, "invalidate": invalidateLua, "barrier": barrierLua,
	}
	for _, m := range mutations {
		if n := strings.Count(sources[m.file], m.old); n != 1 {
			t.Fatalf("%q is found %d times in %s.lua", m.old, n, m.file)
		}
		sources[m.file] = strings.Replace(sources[m.file], m.old, m.new, 1)
	}
	found := make(map[*script]*script)
	for name, s := range map[string]*script{
		"fence": fenceScript, "renew": renewScript, "apply": applyScript, "abort": abortScript, "lease": leaseScript, "fill": fillScript,
		"release": releaseScript, "invalidate": invalidateScript, "barrier": barrierScript,
	} {
		if source := compose(sources["head"], sources["prelude"], sources[name]); source != s.source {
			found[s] = newBareScript(source)
		}
	}
	return found
}

// brokenRule is a protocol with one rule switched off, or two, in a script or in the client's part, and a program of
// those in basePrograms that shows what the rule is for.
type brokenRule struct {
	name    string
	program string
	scripts []mutation
	off     clientRules
	formats []Format // those that the replaced line is for; nil for all
}

// inEnvelopes is for lines of the first parts that look at entries.
func (b brokenRule) inEnvelopes() brokenRule {
	b.formats = []Format{Envelope}
	return b
}

// Lines of the scripts that keep a rule. Where a rule is a line's, the line is replaced.
var (
	fenceSparesLease  = mutation{"fence", "else\n  redis.call('SET', ctl", "elseif state == 'none' then\n  redis.call('SET', ctl"}
	fenceSparesValue  = mutation{"fence", "remove()\nreturn", "return"}
	soleSparesValue   = mutation{"fence", "redis.call('DEL', key, meta)\n", ""}
	soleReplaces      = mutation{"fence", "'NX', 'PX'", "'PX'"}
	fenceShortLife    = mutation{"fence", "if expiry > longest then longest = expiry end", ""}
	fenceLeavesClean  = mutation{"fence", ", 'dirty', '1')", ")"}
	expiredLeaveClean = mutation{"prelude", "redis.call('HSET', ctl, 'dirty', '1')\n    marks.dirty = '1'", ""}
	floorUnheeded     = mutation{"apply", "or marks.floor and older(ARGV[3], marks.floor)", ""}
	lostKeeps         = mutation{"apply", "redis.call('DEL', key, meta, ctl)\n  unpoint()\n  return 'lost'", "return 'lost'"}
	lostStores        = mutation{"apply", "redis.call('DEL', key, meta, ctl)\n  unpoint()\n  return 'lost'", "if ARGV[6] ~= '' then store(ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6]) end\n  return 'lost'"}
	ownTokenUnheeded  = mutation{"apply", "local dirty = own == 0 or ARGV[6] == ''", "local dirty = ARGV[6] == ''"}
	heldStores        = mutation{"apply", "  return 'held'", "  if not dirty then store(ARGV[1], ARGV[2], ARGV[4], ARGV[5], ARGV[6]) end return 'held'"}
	bareLeavesClean   = mutation{"apply", "if dirty then mark(longest, 'dirty', '1') end", ""}
	soleUnheeded      = mutation{"apply", "if held() == 'f:' .. ARGV[7] and (", "if ("}
	soleTakenForLease = mutation{"prelude", "elseif string.sub(text, 1, 2) == 'f:' then", "elseif false then"}
	fillUnderOthers   = mutation{"fill", "if control() ~= 'lease' or redis.call('GET', ctl) ~= ARGV[1] then return 0 end", "if control() ~= 'lease' then return 0 end"}
	fillUnderNone     = mutation{"fill", "if control() ~= 'lease' or redis.call('GET', ctl) ~= ARGV[1] then return 0 end", "if control() == 'fence' then return 0 end"}
	leaseUnderFence   = mutation{"lease", "if state ~= 'none' then return {'bypass', state} end", ""}
	leaseTaken        = mutation{"lease", "if state ~= 'none' then return {'bypass', state} end", "if state == 'fence' then return {'bypass', state} end"}
	renewRecreates    = mutation{"renew", "if state ~= 'fence' or not marks[token] then return 0 end", "if state == 'lease' then redis.call('DEL', ctl) end"}
	abortEndsAll      = mutation{"abort", "if live == 0 then\n  redis.call('DEL', ctl)\nelse", "if true then\n  redis.call('DEL', ctl)\nelse"}
	applyOwnAlone     = mutation{"apply", "for i = 7, #ARGV do", "for i = 7, 7 do"}
	abortOwnAlone     = mutation{"abort", "for i = 1, #ARGV do", "for i = 1, 1 do"}
	lateStandsIn      = mutation{"abort", "if own == 0 then return 'gone' end", ""}
	leaseSpared       = mutation{"invalidate", "if state == 'lease' then\n  redis.call('DEL', ctl)", "if state == 'lease' then"}
	floorNotRaised    = mutation{"invalidate", "mark(longest, 'floor', version)", "version = version"}
	alwaysLeavesClean = mutation{"invalidate", "mark(longest, 'dirty', '1')", "version = version"}
	olderSpared       = mutation{"invalidate", "if not had or older(had, version) then", "if not had then"}
	valueSpared       = mutation{"invalidate", "if not had or older(had, version) then", "if had then"}
	noFirstInvalidate = mutation{"invalidate", "if ARGV[1] == '' and redis.call('EXISTS', ctl, pointer) == 0 then", "if false then"}
	// Lines of the first parts, for what is met nearly always.
	firstFillUnheeding       = mutation{"fill", "held() == ARGV[1] and ", ""}
	firstLeaseUnheeding      = mutation{"lease", "redis.call('EXISTS', key, ctl, meta, pointer)", "redis.call('EXISTS', key, meta, pointer)"}
	firstInvalidateUnheeding = mutation{"invalidate", "redis.call('EXISTS', ctl, pointer)", "redis.call('EXISTS', pointer)"}
	firstAbortUnheeding      = mutation{"abort", "if held() == 'f:' .. ARGV[1] then", "if held() then"}
	releaseOthers            = mutation{"release", "if control() ~= 'lease' or redis.call('GET', ctl) ~= ARGV[1] then return 0 end", "if control() ~= 'lease' then return 0 end"}
	barrierUnseen            = mutation{"barrier", "if control() == 'fence' then return 1 end", ""}
)

func inScript(name, program string, m ...mutation) brokenRule {
	return brokenRule{name: name, program: program, scripts: m}
}

func inClient(name, program string, off clientRules) brokenRule {
	return brokenRule{name: name, program: program, off: off}
}

var brokenRules = []brokenRule{
	inClient("no fence", "two writers, two readers", clientRules{fence: true}),
	inClient("a fence that is not awaited", "two writers, two readers", clientRules{fenceAwaited: true}),
	inScript("a fence that leaves a lease alive", "two writers, two readers", fenceSparesLease),
	inScript("a fence that does not delete the value", "two writers, two readers", fenceSparesValue, soleSparesValue),
	inScript("a fence that takes the place of another", "two writers, two readers", soleReplaces),
	inScript("a fence in the short form taken for a lease", "two writers, two readers", soleTakenForLease),
	inScript("a fence that finds another and stays clean", "two writers, two readers", fenceLeavesClean),
	inScript("the control key's life not extended by later tokens", "lock first twice, killed twice", fenceShortLife),
	inClient("tokens reused by a retry", "late requests", clientRules{freshTokens: true}),
	inScript("fill under another's lease", "two writers, two readers", fillUnderOthers),
	inScript("fill under no lease", "two writers, two readers", fillUnderNone),
	inScript("a first part of fill that stores whatever stands there", "two writers, two readers", firstFillUnheeding).inEnvelopes(),
	inScript("a lease granted under a fence", "two writers, two readers", leaseUnderFence),
	inScript("a first part of lease that does not look at the control key", "two writers, two readers", firstLeaseUnheeding),
	inScript("a first part of invalidate that does not look at the control key", "coarse and precise", firstInvalidateUnheeding),
	inScript("a first part of abort that ends another's fence", "late requests", firstAbortUnheeding),
	inClient("snapshot before the lease", "two writers, two readers", clientRules{snapshotAfterLease: true}),
	inClient("nonces reused by a retry", "late requests", clientRules{freshNonces: true}),
	inClient("apply before COMMIT", "two writers, two readers", clientRules{commitBeforeApply: true}),
	inScript("apply that stores where the key is absent", "late requests", lostStores),
	inScript("a first part of apply that stores whatever stands there", "two writers, two readers", soleUnheeded).inEnvelopes(),
	inScript("apply that stores under another's token", "two writers, two readers", heldStores),
	inScript("apply that does not need its own token", "fences vanish", ownTokenUnheeded),
	inScript("apply without payload that leaves the fence clean", "fences vanish", bareLeavesClean),
	inScript("apply that finds no fence and deletes nothing", "fences vanish", lostKeeps),
	inScript("apply that does not heed the floor", "foreign writer with follower", floorUnheeded),
	inClient("a shared key applied with a payload", "a key that two rows share", clientRules{sharedKeysBare: true}),
	inClient("abort when in doubt", "two writers, two readers", clientRules{abortOnlyIfCertain: true}),
	inScript("abort that ends others' fences", "two writers, two readers", abortEndsAll),
	inClient("in doubt: apply what is in the WAL and not yet visible", "in doubt, asking", clientRules{askVisible: true}),
	inClient("a gone token replaced without losing the payload", "fences vanish", clientRules{refencedBare: true}),
	inScript("renew that recreates a gone token", "fences vanish", renewRecreates),
	inClient("a follower that acts before visibility", "foreign writer with follower", clientRules{followerWaits: true}),
	inScript("a follower that spares leases", "foreign writer with follower", leaseSpared),
	inScript("a follower that ignores fences", "foreign writer with follower", floorNotRaised),
	inScript("a follower that spares older values", "foreign writer with follower", olderSpared),
	inScript("an eventual writer that spares values", "eventual", valueSpared, noFirstInvalidate),
	inScript("an eventual writer that spares leases", "eventual", leaseSpared),
	inScript("an eventual writer that leaves fences clean", "eventual and strict", alwaysLeavesClean),
	inClient("the barrier is not looked at", "coarse and precise", clientRules{barrierLook: true}),
	inClient("the barrier is looked at after the snapshot", "coarse and precise", clientRules{barrierBeforeSnapshot: true}),
	inScript("a barrier that is not seen", "coarse and precise", barrierUnseen),
	inClient("one walk only", "coarse and precise", clientRules{secondWalk: true}),
	inScript("walks that spare leases", "coarse and precise", leaseSpared),
	inScript("walks that leave fences clean", "coarse and precise", alwaysLeavesClean),
	inClient("the barrier released before COMMIT", "coarse and precise", clientRules{barrierOverCommit: true}),
	inClient("a lost barrier is not made good", "coarse, fences vanish", clientRules{lostBarrierSwept: true}),
	inScript("a late token passes for the barrier's own", "coarse, fences vanish, late requests", lateStandsIn),
	inClient("apply: async without a fence", "apply: async", clientRules{fence: true}),
	inClient("apply: async, a fence that is not awaited", "apply: async", clientRules{fenceAwaited: true}),
	inScript("apply: async, a fence that leaves a lease alive", "apply: async", fenceSparesLease),
	inScript("apply: async, a fence that does not delete the value", "apply: async", fenceSparesValue, soleSparesValue),
	inScript("apply: async, apply that stores under another's token", "apply: async", heldStores),
	inClient("Commit returns before apply", "fences vanish", clientRules{applyBeforeReturn: true}),
	inClient("Commit returns before apply, eventual", "eventual", clientRules{applyBeforeReturn: true}),
	inClient("in doubt: apply with payload what is only known to be over", "in doubt, asking", clientRules{finishedBare: true}),
	inClient("in doubt, eventual: made absent once only", "eventual", clientRules{absentTwice: true}),
	inClient("an unanswered apply is not owed", "fences vanish, late requests", clientRules{applyOwed: true}),
	inClient("eventual: an unanswered step is not owed", "eventual, late requests", clientRules{eventualOwed: true}),
	inClient("a lost barrier is walked for once only", "coarse, fences vanish", clientRules{lostBarrierSweptTwice: true}),
	inClient("an unheard lift is not made good", "coarse, fences vanish, late requests", clientRules{unheardLiftSwept: true}),
}

// spareRules are not needed for the promise by themselves. Each is switched off in the programs that could miss it most,
// and nothing is violated; what it is for instead is said here and in docs/PROTOCOL.md.
var spareRules = []struct {
	brokenRule
	programs []string
}{
	// A fence that has an expired token and a live one has had two, and is dirty already.
	{inScript("dirty by an expired token", "", expiredLeaveClean), []string{"two writers, two readers", "lock first twice, killed twice", "owners die in doubt", "coarse twice"}},
	// Needed only where a foreign writer's change reaches a fence by the follower.
	{inScript("floor, without a follower", "", floorUnheeded), []string{"lock first twice, killed twice", "three writers", "eventual and strict", "coarse twice"}},
	{inScript("floor and dirty by an expired token, without a follower", "", floorUnheeded, expiredLeaveClean), []string{"lock first twice, killed twice", "three writers", "coarse twice"}},
	// Needed only where a fence can be gone before its apply.
	{inScript("lost deletes, where fences outlive their COMMITs", "", lostKeeps), []string{"lock first twice, killed twice", "three writers", "coarse twice", "foreign writer twice"}},
	{inScript("floor and lost deletes, where neither is needed", "", floorUnheeded, lostKeeps), []string{"lock first twice, killed twice", "three writers", "coarse twice"}},
	// Each stands in for the other where the one writer that stores a payload is the only one.
	{inScript("dirty by a second token, where no other has a payload", "", fenceLeavesClean), []string{"with and without payload, killed"}},
	{inScript("dirty by an expired token, where no other has a payload", "", expiredLeaveClean), []string{"with and without payload, killed"}},
	// A token that nobody takes out keeps the key out of use for a life, and does no other harm.
	{inScript("earlier tokens left behind", "", applyOwnAlone, abortOwnAlone), []string{"late requests", "in doubt, asking, late requests", "killed, in doubt and late", "coarse, late requests", "coarse, fences vanish, late requests", "fences vanish, late requests"}},
	{inClient("apply does not wait for a renewal", "", clientRules{applyWaits: true}), []string{"fences vanish", "fences vanish, late requests", "coarse, fences vanish", "coarse, fences vanish, late requests"}},
	// Keep readers from doing work twice, nothing else.
	{inScript("a lease granted over another's", "", leaseTaken), []string{"lock first twice, killed twice", "coarse and precise", "eventual"}},
	{inScript("release that ends another's lease", "", releaseOthers), []string{"lock first twice, killed twice", "coarse and precise", "eventual"}},
}

// brokenPairs are the rules that cover for each other, two by two.
var brokenPairs = []brokenRule{
	inScript("floor + dirty by a second token", "two writers, two readers", floorUnheeded, fenceLeavesClean),
	inScript("floor + dirty by an expired token", "foreign writer with follower", floorUnheeded, expiredLeaveClean),
	inScript("floor + lost deletes", "foreign writer twice", floorUnheeded, lostKeeps),
	inScript("dirty by a second token + by an expired token", "two writers, two readers", fenceLeavesClean, expiredLeaveClean),
	inScript("dirty by a second token + lost deletes", "two writers, two readers", fenceLeavesClean, lostKeeps),
	inScript("dirty by an expired token + lost deletes", "fences vanish", expiredLeaveClean, lostKeeps),
	inScript("dirty by a second token + by an expired token, where neither is needed alone", "with and without payload, killed", fenceLeavesClean, expiredLeaveClean),
}

// A rule that can be left out without a violation is one that this explorer does not check.
func TestExploreMutations(t *testing.T) {
	server := exploreServer(t)
	for _, b := range slices.Concat(brokenRules, sharingRules, pastRules, brokenPairs) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			p := programNamed(t, b.program)
			p.off = b.off
			formats := allFormats
			switch {
			case b.formats != nil:
				formats = b.formats
			case len(b.scripts) == 0 && !*exploreLong:
				formats = allFormats[:1] // a rule of the client is the same for every format
			}
			for _, format := range formats {
				run(t, server, format, p, b.scripts...).mustBreak(t)
			}
		})
	}
}

func TestExploreSpareRules(t *testing.T) {
	server := exploreServer(t)
	for _, b := range spareRules {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for _, name := range b.programs {
				p := programNamed(t, name)
				p.off = b.off
				run(t, server, Envelope, p, b.scripts...).mustHold(t)
			}
		})
	}
}

func programNamed(t testing.TB, name string) program {
	t.Helper()
	for _, p := range basePrograms() {
		if p.name == name {
			return p
		}
	}
	t.Fatalf("there is no program %q", name)
	return program{}
}
