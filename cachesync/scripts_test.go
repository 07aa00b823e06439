package cachesync

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

// scene is one key with the names that its parties used.
type scene struct {
	t      *testing.T
	c      *Client
	names  siblings
	format Format
	mine   tokens
	nonce  string // of my lease, else one that was never used
}

func (s *scene) do(k *call) string {
	s.t.Helper()
	s.c.run(s.t.Context(), k)
	if k.err != nil {
		s.t.Fatal(k.err)
	}
	if list, ok := k.val.([]any); ok {
		return fmt.Sprint(list[0])
	}
	return fmt.Sprint(k.val)
}

func (s *scene) encoded(n int) encoded {
	e, err := entry(s.format, fmt.Sprintf(`{"n":%d}`, n), n).encode(version(n))
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

func (s *scene) fence(t *tokens, life time.Duration) { s.do(fenceCall(s.names, t, life)) }

func (s *scene) lease() {
	s.do(leaseCall(s.names, &s.nonce, time.Minute, Wanted{Format: s.format, Schema: testSchema}, 0))
}

// lengthen gives a fence of the short form the long one, and says whether there is one.
func (s *scene) lengthen() bool {
	token, short := strings.CutPrefix(s.c.rdb.Get(s.t.Context(), s.names.control).Val(), "f:")
	if !short {
		return false
	}
	end := time.Now().Add(s.c.rdb.PTTL(s.t.Context(), s.names.control).Val()).UnixMilli()
	pipe := s.c.rdb.TxPipeline()
	pipe.Del(s.t.Context(), s.names.control)
	pipe.HSet(s.t.Context(), s.names.control, "t:"+token, end)
	pipe.PExpireAt(s.t.Context(), s.names.control, time.UnixMilli(end))
	if _, err := pipe.Exec(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return true
}

// states are reached by the scripts themselves.
var states = map[string]func(*scene){
	"absent": func(s *scene) { s.mine.mint(); s.nonce = newToken() },
	"value 5": func(s *scene) {
		var t tokens
		s.fence(&t, time.Minute)
		s.do(applyCall(s.names, &t, s.encoded(5)))
		s.mine.mint()
	},
	"fill": func(s *scene) {
		s.lease()
		s.do(fillCall(s.names, s.nonce, s.fill()))
		s.mine.mint()
	},
	"other's lease": func(s *scene) { s.lease(); s.nonce = newToken(); s.mine.mint() },
	"my lease":      func(s *scene) { s.lease(); s.mine.mint() },
	"my fence":      func(s *scene) { s.fence(&s.mine, time.Minute) },
	"other's fence": func(s *scene) { s.fence(new(tokens), time.Minute); s.mine.mint() },
	"both fence":    func(s *scene) { s.fence(&s.mine, time.Minute); s.fence(new(tokens), time.Minute) },
	"my fence, floor 5": func(s *scene) {
		s.fence(&s.mine, time.Minute)
		s.do(invalidateCall(s.names, version(5)))
	},
	"my fence, floor 10": func(s *scene) {
		s.fence(&s.mine, time.Minute)
		s.do(invalidateCall(s.names, version(10)))
	},
	// The other's token is past its expiry, and no script has looked since.
	"my fence, other's expired": func(s *scene) {
		s.mine.mint()
		s.c.rdb.HSet(s.t.Context(), s.names.control, "t:dead", "1", "t:"+s.mine.own, time.Now().Add(time.Minute).UnixMilli())
		s.c.rdb.PExpire(s.t.Context(), s.names.control, time.Minute)
	},
	// Expired as well, with the key itself still there.
	"all expired": func(s *scene) {
		s.mine.mint()
		s.c.rdb.HSet(s.t.Context(), s.names.control, "t:"+s.mine.own, "1")
	},
}

func (s *scene) fill() encoded {
	e, err := entry(s.format, `{"n":0}`, 0).encode(fillVersion)
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

// actions are one script each, as this client would call it.
var actions = map[string]func(*scene) *call{
	"fence":      func(s *scene) *call { return fenceCall(s.names, new(tokens), time.Minute) },
	"renew":      func(s *scene) *call { return renewCall(s.names, s.mine.own, time.Minute) },
	"apply 5":    func(s *scene) *call { return applyCall(s.names, &s.mine, s.encoded(5)) },
	"apply none": func(s *scene) *call { return applyCall(s.names, &s.mine, none) },
	"abort":      func(s *scene) *call { return abortCall(s.names, &s.mine) },
	"lease": func(s *scene) *call {
		return leaseCall(s.names, new(string), time.Minute, Wanted{Format: s.format, Schema: testSchema}, 0)
	},
	"lease, schema": func(s *scene) *call {
		return leaseCall(s.names, new(string), time.Minute, Wanted{Format: s.format, Schema: foreignSchema}, 0)
	},
	"fill":             func(s *scene) *call { return fillCall(s.names, s.nonce, s.fill()) },
	"release":          func(s *scene) *call { return releaseCall(s.names, s.nonce) },
	"invalidate":       func(s *scene) *call { return invalidateCall(s.names, "") },
	"invalidate 3":     func(s *scene) *call { return invalidateCall(s.names, version(3)) },
	"invalidate 5":     func(s *scene) *call { return invalidateCall(s.names, version(5)) },
	"invalidate 10":    func(s *scene) *call { return invalidateCall(s.names, version(10)) },
	"barrier":          func(s *scene) *call { return barrierCall(s.names) },
	"apply 5, re-sent": func(s *scene) *call { s.mine.mint(); return applyCall(s.names, &s.mine, s.encoded(5)) },
}

// transition is what a script does to a state.
type transition struct{ state, action, answer, after string }

func (r transition) check(s *scene) {
	s.t.Helper()
	if answer := s.do(actions[r.action](s)); answer != r.answer {
		s.t.Errorf("answer %q, want %q", answer, r.answer)
	}
	if after := look(s.t, s.c.rdb, s.names.key); after != r.after {
		s.t.Errorf("then %q, want %q", after, r.after)
	}
}

// transitions is the protocol's table: state, script, answer, state after it.
var transitions = []transition{
	{"absent", "fence", "1", "fence 1"},
	{"value 5", "fence", "1", "fence 1"},
	{"fill", "fence", "1", "fence 1"},
	{"other's lease", "fence", "1", "fence 1"},
	{"my fence", "fence", "2", "fence 2 dirty"},
	{"both fence", "fence", "3", "fence 3 dirty"},
	{"my fence, floor 10", "fence", "2", "fence 2 dirty floor 10"},
	{"my fence, other's expired", "fence", "2", "fence 2 dirty"},
	{"all expired", "fence", "1", "fence 1"},

	{"absent", "renew", "0", "absent"},
	{"value 5", "renew", "0", "value 5"},
	{"other's lease", "renew", "0", "lease"},
	{"my fence", "renew", "1", "fence 1"},
	{"other's fence", "renew", "0", "fence 1"},
	{"both fence", "renew", "1", "fence 2 dirty"},
	{"my fence, other's expired", "renew", "1", "fence 1 dirty"},
	{"all expired", "renew", "0", "absent"},

	{"absent", "apply 5", "lost", "absent"},
	{"value 5", "apply 5", "lost", "absent"},
	{"fill", "apply 5", "lost", "absent"},
	{"other's lease", "apply 5", "lost", "absent"},
	{"my fence", "apply 5", "stored", "value 5"},
	{"other's fence", "apply 5", "held", "fence 1 dirty"},
	{"both fence", "apply 5", "held", "fence 1 dirty"},
	{"my fence, floor 5", "apply 5", "stored", "value 5"},
	{"my fence, floor 10", "apply 5", "dropped", "absent"},
	{"my fence, other's expired", "apply 5", "dropped", "absent"},
	{"all expired", "apply 5", "lost", "absent"},
	{"my fence", "apply 5, re-sent", "dropped", "absent"},

	{"absent", "apply none", "lost", "absent"},
	{"fill", "apply none", "lost", "absent"},
	{"my fence", "apply none", "dropped", "absent"},
	{"other's fence", "apply none", "held", "fence 1 dirty"},
	{"both fence", "apply none", "held", "fence 1 dirty"},

	{"absent", "abort", "gone", "absent"},
	{"value 5", "abort", "gone", "value 5"},
	{"other's lease", "abort", "gone", "lease"},
	{"my fence", "abort", "ended", "absent"},
	{"other's fence", "abort", "gone", "fence 1"},
	{"both fence", "abort", "held", "fence 1 dirty"},
	{"my fence, floor 10", "abort", "ended", "absent"},
	{"my fence, other's expired", "abort", "ended", "absent"},
	{"all expired", "abort", "gone", "absent"},

	{"absent", "lease", "granted", "lease"},
	{"value 5", "lease", "value", "value 5"},
	{"fill", "lease", "value", "fill"},
	{"other's lease", "lease", "bypass", "lease"},
	{"my fence", "lease", "bypass", "fence 1"},
	{"my fence, other's expired", "lease", "bypass", "fence 1 dirty"},
	{"all expired", "lease", "granted", "lease"},
	{"value 5", "lease, schema", "granted", "lease"},
	{"my fence", "lease, schema", "bypass", "fence 1"},

	{"absent", "fill", "0", "absent"},
	{"value 5", "fill", "0", "value 5"},
	{"other's lease", "fill", "0", "lease"},
	{"my lease", "fill", "1", "fill"},
	{"my fence", "fill", "0", "fence 1"},
	{"all expired", "fill", "0", "absent"},

	{"absent", "release", "0", "absent"},
	{"other's lease", "release", "0", "lease"},
	{"my lease", "release", "1", "absent"},
	{"my fence", "release", "0", "fence 1"},

	{"absent", "invalidate", "absent", "absent"},
	{"value 5", "invalidate", "deleted", "absent"},
	{"value 5", "invalidate 3", "kept", "value 5"},
	{"value 5", "invalidate 5", "kept", "value 5"},
	{"value 5", "invalidate 10", "deleted", "absent"},
	{"fill", "invalidate", "deleted", "absent"},
	{"fill", "invalidate 3", "deleted", "absent"},
	{"other's lease", "invalidate 3", "lease", "absent"},
	{"other's lease", "invalidate", "lease", "absent"},
	{"my fence", "invalidate", "fence", "fence 1 dirty"},
	{"my fence", "invalidate 10", "fence", "fence 1 floor 10"},
	{"my fence, floor 5", "invalidate", "fence", "fence 1 dirty floor 5"},
	{"my fence, floor 10", "invalidate 3", "fence", "fence 1 floor 10"},
	{"my fence, floor 5", "invalidate 10", "fence", "fence 1 floor 10"},
	{"my fence, other's expired", "invalidate 3", "fence", "fence 1 dirty floor 3"},
	{"all expired", "invalidate", "absent", "absent"},

	{"absent", "barrier", "0", "absent"},
	{"value 5", "barrier", "0", "value 5"},
	{"other's lease", "barrier", "0", "lease"},
	{"other's fence", "barrier", "1", "fence 1"},
	{"all expired", "barrier", "0", "absent"},
}

// A wrong answer or a wrong state anywhere in this table is a stale read for
// somebody, or a key that is never cached.
func TestTransitions(t *testing.T) {
	c := newTestClient(t, dial(t, testenv.RealRedis(t)), Options{})
	prefix := testenv.KeyPrefix(t)
	for _, format := range allFormats {
		for i, row := range transitions {
			t.Run(fmt.Sprintf("%s/%s/%s", format, row.state, row.action), func(t *testing.T) {
				names, _ := siblingsOf(fmt.Sprintf("%s%s:%d", prefix, format, i))
				s := &scene{t: t, c: c, names: names, format: format}
				states[row.state](s)
				row.check(s)
				s = &scene{t: t, c: c, names: names, format: format}
				c.rdb.Del(t.Context(), names.key, names.control, names.meta, names.pointer)
				states[row.state](s)
				if s.lengthen() { // which is to make no difference
					row.check(s)
				}
			})
		}
	}
}

// A script or state that no row uses is one that nobody has thought through.
func TestTransitionsCoverEveryScript(t *testing.T) {
	for name := range actions {
		if !slices.ContainsFunc(transitions, func(r transition) bool { return r.action == name }) {
			t.Errorf("no row for script %q", name)
		}
	}
	for name := range states {
		if !slices.ContainsFunc(transitions, func(r transition) bool { return r.state == name }) {
			t.Errorf("no row for state %q", name)
		}
	}
}

// A short second token must not shorten the life of a fence that another
// writer still relies on.
func TestFenceOutlivesItsShorterTokens(t *testing.T) {
	c, key := shared(t)
	names, _ := siblingsOf(key)
	s := &scene{t: t, c: c, names: names}
	s.fence(&s.mine, time.Hour)
	s.fence(new(tokens), time.Minute)
	if left := c.rdb.PTTL(t.Context(), names.control).Val(); left <= 30*time.Minute {
		t.Errorf("the control key lives %v, its longest token an hour", left)
	}
	s.fence(new(tokens), 2*time.Hour)
	if left := c.rdb.PTTL(t.Context(), names.control).Val(); left <= 90*time.Minute {
		t.Errorf("the control key lives %v, its longest token two hours", left)
	}
}

// A dead owner must not bar its key longer than its token lives, and whoever
// comes while another token lives must know that one was missed.
func TestTokensExpireByTheServersClock(t *testing.T) {
	c, key := shared(t)
	names, _ := siblingsOf(key)
	s := &scene{t: t, c: c, names: names}
	s.fence(&s.mine, time.Hour)
	s.fence(new(tokens), time.Millisecond)
	eventually(t, "the short token is dropped", func() bool {
		s.do(renewCall(names, s.mine.own, time.Hour))
		return look(t, c.rdb, key) == "fence 1 dirty"
	})
	s.do(abortCall(names, &s.mine))
	s.fence(new(tokens), time.Millisecond)
	eventually(t, "a reader may fill again", func() bool {
		return s.do(leaseCall(names, new(string), time.Minute, Wanted{Schema: testSchema}, 0)) == "granted"
	})
}

// A failover goes forward in timeline and back in position: the timeline must
// win, digit by digit and not by the server's locale.
func TestVersionsCompareAsHexDigits(t *testing.T) {
	c, key := shared(t)
	names, _ := siblingsOf(key)
	ordered := []string{
		"000000000000000000000001", "00000001000000000000000a", "000000010000000a00000009",
		"000000010000000a0000000f", "000000010020000000000000", "000000010020000000000001",
		"000000020000000000000000", "0000000a0000000000000000", "ffffffff0000000000000000",
	}
	for i, low := range ordered {
		for j, high := range ordered {
			f := mustFence(t, c, key)
			e := entry(Envelope, "1", 0)
			e.Version = low
			f.Apply(t.Context(), map[string]Entry{key: e})
			s := &scene{t: t, c: c, names: names}
			want := "kept"
			if i < j {
				want = "deleted"
			}
			if got := s.do(invalidateCall(names, high)); got != want {
				t.Errorf("value %s, invalidated at %s: %s, want %s", low, high, got, want)
			}
		}
	}
}

// A token's end may come while a script is at work on it. What the script sets then must end with it: a mark that
// is left without a token and without a life would be there for ever.
func TestMarksEndWithTheirFence(t *testing.T) {
	c := newTestClient(t, dial(t, testenv.RealRedis(t)), Options{})
	const life = "redis.call('PEXPIREAT', ctl, ms(ends))"
	if strings.Count(preludeLua, life) != 1 {
		t.Fatalf("%q is not found in prelude.lua", life)
	}
	passed := strings.Replace(preludeLua, life, "redis.call('PEXPIREAT', ctl, '1')", 1)
	for name, body := range map[string]string{"apply 5": applyLua, "invalidate": invalidateLua, "invalidate 5": invalidateLua, "fence": fenceLua} {
		for _, long := range []bool{false, true} {
			names, _ := siblingsOf(testenv.KeyPrefix(t) + name)
			s := &scene{t: t, c: c, names: names, format: Envelope}
			states["other's fence"](s)
			if long {
				s.lengthen()
			}
			k := actions[name](s)
			k.script = newBareScript(compose(headLua, passed, body))
			s.do(k)
			if left := look(t, c.rdb, names.key); left != "absent" {
				t.Errorf("%s on a fence (long: %v) whose time has come leaves %q", name, long, left)
			}
		}
	}
}
