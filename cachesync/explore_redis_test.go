package cachesync

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// What Redis holds for one key and its siblings is a *unit*. A script is a function of its arguments, of one unit and of
// the time, so the machine runs each script once for each pair of arguments and unit, on a real Redis that it has put into
// that state, and remembers the answer and the unit that the script left behind.
//
// Time goes in ticks. A tick is an hour of Redis' clock, so that the microseconds that a run takes do not matter: lives
// are given in ticks, and the times found in Redis are rounded to ticks from now.
const (
	tickLength = time.Hour
	fenceTicks = 2 // so that a token can be older than another one that is alive
	leaseTicks = 1
	valueTicks = 1000
	longTicks  = 500 // what lives longer outlives every run
)

// request is one script with its arguments, under the names that the model uses.
type request struct {
	op   op
	unit uint8 // which of the program's keys
	who  uint8 // the process
	try  uint8 // the number of its token or nonce; for apply and abort the number of tries
	// version and content are those of a payload; content is none where there is no payload.
	version, content uint8
}

const noContent = 0xff

type op uint8

const (
	opFence op = iota
	opRenew
	opApply
	opAbort
	opLease
	opFill
	opRelease
	opInvalidate
	opBarrier
	opLeaseNew // a lease of a reader to whom any value is too old
	opDelete   // a walk that met a key's own name
	ops
)

var opNames = [ops]string{"fence", "renew", "apply", "abort", "lease", "fill", "release", "invalidate", "barrier", "lease_new", "del"}

// result is what a script answered and what it left.
type result struct {
	answer string
	after  unitID
}

// remembered is what a result depends on.
type remembered struct {
	request
	before unitID
}

// machine runs scripts. It is not for concurrent use.
type machine struct {
	t       testing.TB
	rdb     *redis.Client
	client  *Client
	format  Format
	scripts map[*script]*script // mutants, by what they stand for
	names   siblings

	units    []unit
	ids      map[string]unitID
	requests []request
	numbers  map[request]uint16
	memo     map[remembered]result
	runs     int             // scripts that Redis executed
	answers  map[string]bool // all that were given, as "script answer"

	// close gives the database back.
	close func()
}

// Redis' logical databases, one for each exploration that runs at the same time.
var exploreDBs = make(chan int, 16)

func init() {
	for db := range cap(exploreDBs) {
		exploreDBs <- db
	}
}

// newMachine takes one of the logical databases of a Redis that belongs to this test alone.
func newMachine(t testing.TB, server *testenv.RedisServer, format Format, mutations []mutation) *machine {
	t.Helper()
	db := <-exploreDBs
	rdb := dial(t, server.URL, func(o *redis.Options) {
		o.DB, o.PoolSize = db, 1
		o.ReadTimeout, o.WriteTimeout = time.Minute, time.Minute
	})
	names, _ := siblingsOf("row:1")
	m := &machine{
		t: t, rdb: rdb, close: func() { rdb.Close(); exploreDBs <- db }, client: newTestClient(t, rdb, Options{Deadline: time.Minute, FenceLife: time.Hour, unnoticed: true}),
		format: format, names: names, scripts: mutants(t, mutations),

		ids: make(map[string]unitID), numbers: make(map[request]uint16), memo: make(map[remembered]result),
		answers: make(map[string]bool),
	}
	m.intern(nil)
	for _, s := range []*script{
		fenceScript, renewScript, applyScript, abortScript, leaseScript, fillScript, releaseScript, invalidateScript, barrierScript,
	} {
		if err := rdb.ScriptLoad(context.Background(), m.script(s).source).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := rdb.ScriptLoad(context.Background(), dumpLua).Err(); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) script(s *script) *script {
	if mutant, ok := m.scripts[s]; ok {
		return mutant
	}
	return s
}

// number names a request in as few bits as a message in flight may take.
func (m *machine) number(r request) uint16 {
	n, ok := m.numbers[r]
	if !ok {
		if len(m.requests) >= math.MaxUint16 {
			m.t.Fatal("more requests than two bytes can name")
		}
		n = uint16(len(m.requests))
		m.requests = append(m.requests, r)
		m.numbers[r] = n
	}
	return n
}

// run gives what a request does to a unit.
func (m *machine) run(r request, before unitID) result {
	r.unit = 0 // every unit is played on the same names
	at := remembered{r, before}
	res, ok := m.memo[at]
	if !ok {
		res = m.execute(r, before)
		m.memo[at] = res
	}
	return res
}

// execute puts Redis into a state, runs the script of a request and reads the state back, in one round trip.
func (m *machine) execute(r request, before unitID) result {
	ctx := context.Background()
	pipe := m.rdb.Pipeline()
	m.restore(pipe, before)
	answer := pipe.Do(ctx, m.command(r, m.names)...)
	dump := pipe.EvalSha(ctx, dumpDigest, nil)
	if _, err := pipe.Exec(ctx); err != nil {
		m.t.Fatalf("%s on %s: %v", m.describe(r), m.show(before), err)
	}
	m.runs++
	m.answers[opNames[r.op]+" "+text(answer.Val())] = true
	res := result{text(answer.Val()), m.intern(m.parse(dump.Val()))}
	m.mustBeReadable(r, before, res)
	return res
}

// command is what a request sends, to a unit of the given names.
func (m *machine) command(r request, names siblings) []any {
	if r.op == opDelete {
		return []any{"del", names.key, names.meta}
	}
	k := m.call(r)
	k.versionKey = strings.ReplaceAll(k.versionKey, k.names.key, names.key)
	k.names = names
	return k.command(false)
}

// mustBeReadable fails the test where a script says that there is a value, and a reader gets none or another: what no
// reader gets is never judged, so that the properties would hold of it whatever it is.
func (m *machine) mustBeReadable(r request, before unitID, res result) {
	stored := r.op == opApply && res.answer == "stored" || r.op == opFill && res.answer == "1"
	if got := m.contents(res.after); stored && got != int(r.content) {
		m.t.Fatalf("%s on %s: a reader gets %d", m.describe(r), m.show(before), got)
	}
	if r.op == opLease && res.answer == "value" && m.contents(before) < 0 {
		m.t.Fatalf("%s on %s: a reader gets nothing", m.describe(r), m.units[before].spelling)
	}
}

// text is an answer's first or only word.
func text(v any) string {
	if list, ok := v.([]any); ok {
		v = list[0]
	}
	return fmt.Sprint(v)
}

// call has the client's own builders make the call, and gives it the model's token in place of a random one.
func (m *machine) call(r request) *call {
	var fresh string
	var k *call
	switch r.op {
	case opFence:
		k = fenceCall(m.names, new(tokens), fenceTicks*tickLength)
		k.args[0] = tokenName(r.who, r.try)
	case opRenew:
		k = renewCall(m.names, tokenName(r.who, r.try), fenceTicks*tickLength)
	case opApply:
		k = applyCall(m.names, tried(r), m.payload(r, version(int(r.version))))
	case opAbort:
		k = abortCall(m.names, tried(r))
	case opLease, opLeaseNew:
		schema := testSchema
		if r.op == opLeaseNew {
			schema = noSchema
		}
		k = leaseCall(m.names, &fresh, leaseTicks*tickLength, Wanted{Format: m.format, Schema: schema}, 0)
		k.args[0] = nonceName(r.who, r.try)
	case opFill:
		k = fillCall(m.names, nonceName(r.who, r.try), m.payload(r, fillVersion))
	case opRelease:
		k = releaseCall(m.names, nonceName(r.who, r.try))
	case opInvalidate:
		v := ""
		if r.version != 0 {
			v = version(int(r.version))
		}
		k = invalidateCall(m.names, v)
	case opBarrier:
		k = barrierCall(m.names)
	}
	k.script = m.script(k.script)
	return k
}

// noSchema is one that no value has, so that lease makes room as it does where a value is too old.
const noSchema = "ffffffff"

func tokenName(who, try uint8) string { return fmt.Sprintf("w%d.%d", who, try) }

// nonceName is spelled as real nonces are: the name of a fill's version key holds it, and readers look at that.
func nonceName(who, try uint8) string { return "R" + string(rune('A'+who)) + string(rune('A'+try)) }

// shownNonce spells a nonce like a token.
func shownNonce(name string) string { return fmt.Sprintf("r%d.%d", name[1]-'A', name[2]-'A') }

// tried are a writer's tokens, the newest and those of earlier tries.
func tried(r request) *tokens {
	t := &tokens{own: tokenName(r.who, r.try-1)}
	for n := range r.try - 1 {
		t.earlier = append(t.earlier, tokenName(r.who, n))
	}
	return t
}

func (m *machine) payload(r request, v string) encoded {
	if r.content == noContent {
		return none
	}
	e, err := Entry{
		Payload: fmt.Appendf(nil, `{"content":%d}`, r.content), Version: v, Schema: testSchema, TTL: valueTicks * tickLength, Format: m.format,
	}.encode(v)
	if err != nil {
		m.t.Fatal(err)
	}
	return e
}

// contents gives what a reader of wtcache gets out of a unit: -1 for nothing.
func (m *machine) contents(id unitID) int {
	u := &m.units[id]
	if u.contentSet {
		return u.content
	}
	u.content, u.contentSet = -1, true
	pipe := m.rdb.Pipeline()
	m.restore(pipe, id)
	if _, err := pipe.Exec(context.Background()); err != nil {
		m.t.Fatal(err)
	}
	value, ok, err := m.client.Get(context.Background(), m.names.key, m.format, testSchema)
	if err != nil {
		m.t.Fatal(err)
	}
	if ok {
		if _, err := fmt.Sscanf(string(value.Payload), `{"content":%d}`, &u.content); err != nil {
			m.t.Fatalf("read %q: %v", value.Payload, err)
		}
	}
	return u.content
}

// dumpLua reads all that the database holds, whatever its names: formats may use names of their own.
const dumpLua = `
local out = {}
for _, name in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', name).ok
  local parts
  if kind == 'hash' then parts = redis.call('HGETALL', name) else parts = {redis.call('GET', name)} end
  out[#out + 1] = {name, kind, redis.call('PTTL', name), parts}
end
return out`

var dumpDigest = redis.NewScript(dumpLua).Hash()

func (m *machine) restore(pipe redis.Pipeliner, id unitID) {
	ctx := context.Background()
	pipe.FlushDB(ctx)
	for _, p := range m.units[id].names {
		parts := make([]any, len(p.parts))
		for i, s := range p.parts {
			parts[i] = untick(s)
		}
		if p.kind == "hash" {
			pipe.HSet(ctx, p.name, parts...)
		} else {
			pipe.Set(ctx, p.name, parts[0], 0)
		}
		pipe.PExpire(ctx, p.name, time.Duration(p.ticks)*tickLength)
	}
}

// describe spells a request for a trace.
func (m *machine) describe(r request) string {
	args := ""
	switch r.op {
	case opFence, opRenew:
		args = tokenName(r.who, r.try)
	case opApply, opAbort:
		t := tried(r)
		args = strings.Join(append([]string{t.own}, t.earlier...), "+")
	case opLease, opLeaseNew, opRelease, opFill:
		args = shownNonce(nonceName(r.who, r.try))
	case opInvalidate:
		args = "always"
		if r.version != 0 {
			args = fmt.Sprintf("below %d", r.version)
		}
	}
	switch r.op {
	case opApply, opFill:
		payload := "none"
		if r.content != noContent {
			payload = contentName(int(r.content))
		}
		args = strings.TrimPrefix(args+", "+payload, ", ")
	}
	return fmt.Sprintf("%s(%s)", opNames[r.op], args)
}
