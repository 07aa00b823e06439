package cachesync

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
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

// unitID names a unit that was met before. The first is the empty one.
type unitID uint16

// physical is one name in Redis. Its life is in ticks, its times are spelled "@ticks", 0 for all that has passed.
type physical struct {
	name, kind string
	ticks      int
	parts      []string
}

// unit is a state of one key's names in Redis, and what the model has to know of it.
type unit struct {
	names    []physical
	spelling string // of the names and all that they hold
	control  int    // the place of the control key in names, -1 if it is not there
	fence    bool
	tokens   [maxProcs * maxTries]uint8 // the ticks that each token has left
	nonce    int                        // 1 + the place of the nonce that holds the lease, 0 without a lease

	content    int // what a reader gets: -1 nothing; see contents
	contentSet bool
}

// stored says whether there is anything but control state.
func (u *unit) stored() bool { return len(u.names) > 1 || len(u.names) == 1 && u.control < 0 }

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
	opCAS
	opBarrier
	ops
)

var opNames = [ops]string{"fence", "renew", "apply", "abort", "lease", "fill", "release", "invalidate", "apply_cas", "barrier"}

// result is what a script answered and what it left.
type result struct {
	answer string
	after  unitID
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
	memo     map[uint32]result
	ticked   map[unitID]unitID
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
		t: t, rdb: rdb, close: func() { rdb.Close(); exploreDBs <- db }, client: newTestClient(t, rdb, Options{Deadline: time.Minute, FenceLife: time.Hour}),
		format: format, names: names, scripts: mutants(t, mutations),

		ids: make(map[string]unitID), numbers: make(map[request]uint16), memo: make(map[uint32]result), ticked: make(map[unitID]unitID),
		answers: make(map[string]bool),
	}
	m.intern(nil)
	for _, s := range []*script{
		fenceScript, renewScript, applyScript, abortScript, leaseScript, fillScript, releaseScript, invalidateScript, applyCASScript, barrierScript,
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
		n = uint16(len(m.requests))
		m.requests = append(m.requests, r)
		m.numbers[r] = n
	}
	return n
}

// run gives what a request does to a unit.
func (m *machine) run(r request, before unitID) result {
	r.unit = 0 // every unit is played on the same names
	at := uint32(m.number(r))<<16 | uint32(before)
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
	answer := pipe.Do(ctx, m.call(r).command(false)...)
	dump := pipe.EvalSha(ctx, dumpDigest, nil)
	if _, err := pipe.Exec(ctx); err != nil {
		m.t.Fatalf("%s on %s: %v", m.describe(r), m.show(before), err)
	}
	m.runs++
	m.answers[opNames[r.op]+" "+text(answer.Val())] = true
	return result{text(answer.Val()), m.intern(m.parse(dump.Val()))}
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
	case opLease:
		k = leaseCall(m.names, &fresh, leaseTicks*tickLength, m.format, testSchema)
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
	case opCAS:
		k = applyCASCall(m.names, m.payload(r, version(int(r.version))))
	case opBarrier:
		k = barrierCall(m.names)
	}
	k.script = m.script(k.script)
	return k
}

func tokenName(who, try uint8) string { return fmt.Sprintf("w%d.%d", who, try) }
func nonceName(who, try uint8) string { return fmt.Sprintf("r%d.%d", who, try) }

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
		return none(v)
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

var (
	instants = regexp.MustCompile(`(^|[^0-9a-fA-F@])([0-9]{13})($|[^0-9a-fA-F])`)
	ticks    = regexp.MustCompile(`@([0-9]+)@`)
)

// enticked spells the times in a text in ticks from now.
func enticked(s string) string {
	return instants.ReplaceAllStringFunc(s, func(found string) string {
		at := strings.IndexAny(found, "0123456789")
		ms, _ := strconv.ParseInt(found[at:at+13], 10, 64)
		n := max(int(time.Until(time.UnixMilli(ms)).Round(tickLength)/tickLength), 0)
		return fmt.Sprintf("%s@%d@%s", found[:at], n, found[at+13:])
	})
}

// untick is its inverse; what has passed has passed a tick ago.
func untick(s string) string {
	return ticks.ReplaceAllStringFunc(s, func(found string) string {
		n, _ := strconv.Atoi(strings.Trim(found, "@"))
		if n == 0 {
			n = -1
		}
		return strconv.FormatInt(time.Now().Add(time.Duration(n)*tickLength).UnixMilli(), 10)
	})
}

func (m *machine) parse(dump any) []physical {
	var names []physical
	for _, item := range dump.([]any) {
		fields := item.([]any)
		p := physical{name: fields[0].(string), kind: fields[1].(string)}
		ms := fields[2].(int64)
		if ms < 0 {
			m.t.Fatalf("%s would live for ever", p.name)
		}
		p.ticks = int((time.Duration(ms) * time.Millisecond).Round(tickLength) / tickLength)
		for _, part := range fields[3].([]any) {
			p.parts = append(p.parts, enticked(part.(string)))
		}
		names = append(names, p)
	}
	return names
}

// intern gives a state its number, and puts it into one order first.
func (m *machine) intern(names []physical) unitID {
	slices.SortFunc(names, func(a, b physical) int { return strings.Compare(a.name, b.name) })
	for _, p := range names {
		if p.kind == "hash" {
			sortFields(p.parts)
		}
	}
	var b strings.Builder
	for _, p := range names {
		fmt.Fprintf(&b, "%q %s %d %q\n", p.name, p.kind, p.ticks, p.parts)
	}
	spelled := b.String()
	id, ok := m.ids[spelled]
	if !ok {
		id = unitID(len(m.units))
		m.ids[spelled] = id
		u := m.examine(names)
		u.spelling = spelled
		m.units = append(m.units, u)
	}
	return id
}

func sortFields(parts []string) {
	fields := make([][2]string, 0, len(parts)/2)
	for i := 0; i < len(parts); i += 2 {
		fields = append(fields, [2]string{parts[i], parts[i+1]})
	}
	slices.SortFunc(fields, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	for i, f := range fields {
		parts[2*i], parts[2*i+1] = f[0], f[1]
	}
}

func (m *machine) examine(names []physical) unit {
	u := unit{names: names, control: slices.IndexFunc(names, func(p physical) bool { return p.name == m.names.control })}
	if u.control < 0 {
		return u
	}
	c := names[u.control]
	if c.kind == "string" {
		u.nonce = 1 + named(c.parts[0])
		return u
	}
	u.fence = true
	for i := 0; i < len(c.parts); i += 2 {
		if name, ok := strings.CutPrefix(c.parts[i], "t:"); ok {
			n, _ := strconv.Atoi(strings.Trim(c.parts[i+1], "@"))
			u.tokens[named(name)] = uint8(n)
		}
	}
	return u
}

// named is the place of a token or nonce among all.
func named(name string) int {
	var who, try int
	if _, err := fmt.Sscanf(name[1:], "%d.%d", &who, &try); err != nil {
		panic(name)
	}
	return who*maxTries + try
}

// tick lets an hour pass, as Redis would: names whose life has ended are gone, tokens past theirs are still in the hash.
func (m *machine) tick(id unitID) unitID {
	after, ok := m.ticked[id]
	if ok {
		return after
	}
	var names []physical
	for _, p := range m.units[id].names {
		if p.ticks < longTicks {
			p.ticks--
		}
		if p.ticks == 0 {
			continue
		}
		p.parts = slices.Clone(p.parts)
		for i, s := range p.parts {
			p.parts[i] = ticks.ReplaceAllStringFunc(s, func(found string) string {
				n, _ := strconv.Atoi(strings.Trim(found, "@"))
				return fmt.Sprintf("@%d@", max(n-1, 0))
			})
		}
		names = append(names, p)
	}
	after = m.intern(names)
	m.ticked[id] = after
	return after
}

// without is a unit that has lost its control key, or everything else.
func (m *machine) without(id unitID, control bool) unitID {
	var names []physical
	for i, p := range m.units[id].names {
		if (i == m.units[id].control) != control {
			names = append(names, p)
		}
	}
	return m.intern(names)
}

// show spells a unit for a trace.
func (m *machine) show(id unitID) string {
	u := &m.units[id]
	var parts []string
	if c := m.contents(id); c >= 0 {
		parts = append(parts, "value "+contentName(c))
	}
	if u.control >= 0 {
		c := u.names[u.control]
		if u.fence {
			parts = append(parts, "fence "+showFence(c.parts))
		} else {
			parts = append(parts, fmt.Sprintf("lease %s, %d left", c.parts[0], c.ticks))
		}
	}
	if len(parts) == 0 {
		return "absent"
	}
	return strings.Join(parts, " + ")
}

func showFence(fields []string) string {
	var parts []string
	for i := 0; i < len(fields); i += 2 {
		switch name, ok := strings.CutPrefix(fields[i], "t:"); {
		case ok:
			parts = append(parts, name+" "+strings.Trim(fields[i+1], "@")+" left")
		case name == "floor":
			parts = append(parts, "floor "+strings.TrimLeft(fields[i+1][9:], "0"))
		default:
			parts = append(parts, name)
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
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
	case opLease, opRelease, opFill:
		args = nonceName(r.who, r.try)
	case opInvalidate:
		args = "always"
		if r.version != 0 {
			args = fmt.Sprintf("below %d", r.version)
		}
	}
	switch r.op {
	case opApply, opCAS, opFill:
		payload := "none"
		if r.content != noContent {
			payload = contentName(int(r.content))
		}
		args = strings.TrimPrefix(args+", "+payload, ", ")
	}
	return fmt.Sprintf("%s(%s)", opNames[r.op], args)
}
