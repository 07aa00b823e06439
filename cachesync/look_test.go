package cachesync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// recorder is a hook that notes what is sent: one line a request, its commands' names.
type recorder struct {
	mu   sync.Mutex
	sent []string
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

func (r *recorder) note(cmds ...redis.Cmder) {
	var names []string
	for _, cmd := range cmds {
		name := cmd.Name()
		if script, ok := ScriptName(cmd.Args()); ok {
			name = script
		}
		if len(names) == 0 || !strings.HasPrefix(names[len(names)-1], name) {
			names = append(names, name)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, strings.Join(names, " "))
}

func (r *recorder) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (r *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.note(cmd)
		return next(ctx, cmd)
	}
}

func (r *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		r.note(cmds...)
		return next(ctx, cmds)
	}
}

// Reading a hundred rows must not cost a hundred round trips: one request for the entries,
// one for the leases, one for the fills, and one for the unused leases.
func TestManyKeysCostOneRequestEach(t *testing.T) {
	for _, format := range allFormats {
		t.Run(format.String(), func(t *testing.T) {
			rdb := dial(t, testenv.RealRedis(t))
			c, prefix := newTestClient(t, rdb, Options{}), testenv.KeyPrefix(t)
			want := Wanted{Format: format, Schema: testSchema}
			keys, entries := manyKeys(prefix, 100, format)
			there := map[string]Entry{}
			for _, key := range keys[:50] {
				there[key] = entries[key]
			}
			mustFence(t, c, keys[:50]...).Apply(t.Context(), there)
			fillAndRead(t, c, prefix+"first", format) // the scripts and the server's clock are known now
			for i, l := range c.Leases(t.Context(), keys, want) {
				if i >= 50 && l.State != LeaseGranted || i < 50 && l.State != LeaseValue {
					t.Fatalf("%s: %+v", keys[i], l)
				}
				if _, err := c.Fills(t.Context(), []Filling{{l, Entry{}}}); err != nil { // gives it back
					t.Fatal(err)
				}
			}
			sent := &recorder{}
			rdb.AddHook(sent)
			for i, f := range c.LookMany(t.Context(), keys, want) {
				if f.Err != nil || f.Hit != (i < 50) || f.Hit && string(f.Value.Payload) != "1" {
					t.Errorf("%s: %+v", keys[i], f)
				}
			}
			fills := make([]Filling, 50)
			for i, l := range c.Leases(t.Context(), keys[50:], want) {
				fills[i] = Filling{l, entry(format, strconv.Itoa(i), 0)}
			}
			filled, err := c.Fills(t.Context(), fills)
			if err != nil || slices.Contains(filled, false) {
				t.Errorf("filled %v, %v", filled, err)
			}
			look := map[Format]string{Envelope: "mget", Plain: "mget", Hash: "hmget", Versioned: "evalsha"}[format]
			if got := sent.take(); !slices.Equal(got, []string{look, "lease", "fill"}) {
				t.Errorf("sent %q", got)
			}
			for i, f := range c.LookMany(t.Context(), keys[50:], want) {
				if !f.Hit || string(f.Value.Payload) != strconv.Itoa(i) {
					t.Errorf("%s: %+v", keys[50+i], f)
				}
			}
		})
	}
}

// More keys than one request may hold, some that cannot be cached, and one twice: each gets
// its own answer.
func TestLookManyKeepsTheOrder(t *testing.T) {
	for _, format := range allFormats {
		c, prefix := newTestClient(t, dial(t, testenv.RealRedis(t)), Options{}), testenv.KeyPrefix(t)
		keys, entries := manyKeys(prefix, 2*lookKeys+7, format)
		mustFence(t, c, keys...).Apply(t.Context(), entries)
		asked := slices.Concat(keys[:3], []string{"", prefix + "absent", keys[1]}, keys[3:])
		for i, f := range c.LookMany(t.Context(), asked, Wanted{Format: format, Schema: testSchema}) {
			if absent := i == 3 || i == 4; f.Err != nil || f.Hit == absent {
				t.Errorf("%v: %q: %+v", format, asked[i], f)
			}
		}
	}
}

// aged makes an entry look as if it had been written so long ago.
func aged(t *testing.T, rdb redis.UniversalClient, key string, format Format, age time.Duration) {
	t.Helper()
	names, _ := siblingsOf(key)
	text := strconv.FormatInt(time.Now().Add(-age).UnixMilli(), 10)
	var err error
	switch format {
	case Envelope:
		err = rdb.SetRange(t.Context(), names.key, int64(atWritten), text).Err()
	case Hash:
		err = rdb.HSet(t.Context(), names.key, "written_at", text).Err()
	default:
		err = rdb.SetRange(t.Context(), names.meta, int64(atWritten), text).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A reader that says how old a row may be never gets an older one, and leaves a younger one
// behind for the next reader.
func TestMaxAge(t *testing.T) {
	for _, format := range allFormats {
		t.Run(format.String(), func(t *testing.T) {
			c, key := shared(t)
			store(t, c, key, entry(format, "old", 5))
			aged(t, c.rdb, key, format, time.Hour)
			any, young := Wanted{Format: format, Schema: testSchema}, Wanted{Format: format, Schema: testSchema, MaxAge: time.Minute}
			if f := c.Look(t.Context(), key, any); !f.Hit || f.Age < 59*time.Minute || f.Age > 61*time.Minute {
				t.Fatalf("an entry of an hour ago: %+v", f)
			}
			if l := c.Leases(t.Context(), []string{key}, any)[0]; l.State != LeaseValue || l.Age < 59*time.Minute {
				t.Fatalf("a reader who takes any age was not given the entry: %+v", l)
			}
			if f := c.Look(t.Context(), key, young); f.Hit || f.Err != nil {
				t.Fatalf("a reader who takes a minute was given: %+v", f)
			}
			l := c.Leases(t.Context(), []string{key}, young)[0]
			if l.State != LeaseGranted {
				t.Fatalf("the old entry does not make room: %+v", l)
			}
			if ok, err := c.Fill(t.Context(), l, entry(format, "new", 0)); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if f := c.Look(t.Context(), key, young); !f.Hit || string(f.Value.Payload) != "new" {
				t.Errorf("after the fill: %+v", f)
			}
			if s := c.Stats(); s.TooOld != 1 {
				t.Errorf("%d entries were counted as too old, not 1", s.TooOld)
			}
		})
	}
}

// What is not fit to be served (it outlived its TTL, is damaged, or of another schema) counts as
// absent, is counted, and is logged with its key and never with what it holds; a release that
// meets a million of them does not write a million lines.
func TestUnfitEntriesAreCountedAndSaid(t *testing.T) {
	const secret = "payload-that-no-log-may-hold"
	for _, format := range allFormats {
		t.Run(format.String(), func(t *testing.T) {
			var log bytes.Buffer
			c := newTestClient(t, dial(t, testenv.RealRedis(t)), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			key := testenv.KeyPrefix(t) + "1"
			want := Wanted{Format: format, Schema: testSchema, TTL: 10 * time.Minute}
			unfit := func(schema string, spoil func()) {
				t.Helper()
				e := entry(format, `"`+secret+`"`, 5)
				e.Schema = schema
				store(t, c, key, e)
				spoil()
				for range 3 {
					if f := c.Look(t.Context(), key, want); f.Hit || f.Err != nil {
						t.Errorf("served: %+v", f)
					}
				}
				l := c.Leases(t.Context(), []string{key}, want)[0]
				if l.State != LeaseGranted {
					t.Errorf("it does not make room: %+v", l)
				}
				c.Release(t.Context(), l)
			}
			unfit(foreignSchema, func() {})
			unfit(testSchema, func() { damage(t, c, key, format) })
			unfit(testSchema, func() { aged(t, c.rdb, key, format, time.Hour) })
			s := c.Stats()
			if s.SchemaMismatches != 3 || s.ChecksumMismatches < 3 || s.Outlived != 3 {
				t.Errorf("counted %d of another schema, %d damaged, %d outlived", s.SchemaMismatches, s.ChecksumMismatches, s.Outlived)
			}
			text := log.String()
			if n := strings.Count(text, "key="+key); n != 3 {
				t.Errorf("%d lines name the key, not one for each reason:\n%s", n, text)
			}
			if strings.Contains(text, secret) {
				t.Errorf("the log holds the payload:\n%s", text)
			}
		})
	}
}

// damage changes the payload behind its checksum's back.
func damage(t *testing.T, c *Client, key string, format Format) {
	t.Helper()
	names, _ := siblingsOf(key)
	var err error
	switch format {
	case Envelope:
		err = c.rdb.SetRange(t.Context(), key, int64(atData)+3, "#").Err()
	case Plain:
		err = c.rdb.SetRange(t.Context(), key, 3, "#").Err()
	case Hash:
		err = c.rdb.HSet(t.Context(), key, "data", "#").Err()
	default:
		err = c.rdb.SetRange(t.Context(), c.rdb.Get(t.Context(), names.pointer).Val(), 3, "#").Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Ages are by the clock of the server that wrote the entry. Where this machine's is minutes
// off, a fresh entry must not look old, nor an old one fresh.
func TestAgeIsByTheServersClock(t *testing.T) {
	c, key := shared(t)
	store(t, c, key, entry(Envelope, "1", 5))
	if f := c.Look(t.Context(), key, Wanted{Schema: testSchema}); !f.Hit || f.Age > patience {
		t.Fatalf("%+v", f)
	}
	server := c.peers.of(serverOf(c.rdb))
	if server.measured.Load() == 0 {
		t.Fatal("the server was not asked for its time")
	}
	server.ahead.Add(int64(time.Hour)) // as if the server's clock were an hour ahead of ours
	if f := c.Look(t.Context(), key, Wanted{Schema: testSchema}); !f.Hit || f.Age < 59*time.Minute {
		t.Errorf("an entry that the server wrote an hour ago by its clock: %+v", f)
	}
	if s := c.Stats(); s.Ages.Max < 59*time.Minute || s.Ages.Counts[len(AgeBounds)-1] != 1 || s.Ages.Sum < 59*time.Minute {
		t.Errorf("%+v", s.Ages)
	}
}

// After an outage, what Redis holds may lack what was committed meanwhile and went to an
// outbox. Nothing may be served until Recovered has agreed, not even what was asked for
// before it did.
func TestNothingIsServedBeforeRecovery(t *testing.T) {
	server := testenv.NewRedis(t)
	proxy := testenv.ProxyURL(t, server.URL)
	agree := make(chan error)
	asked := make(chan struct{}, 100)
	c := newTestClient(t, dial(t, proxy.URL, func(o *redis.Options) { o.MaxRetries = -1 }), Options{
		Deadline: patience / 4, FenceLife: 2 * patience, Breaker: BreakerOptions{Failures: 2, OpenFor: time.Millisecond},
		Recovered: func(ctx context.Context) error {
			asked <- struct{}{}
			select {
			case err := <-agree:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	})
	for _, format := range allFormats {
		store(t, c, "k"+format.String(), entry(format, "1", 5))
	}
	served := func() (n int) {
		for _, format := range allFormats {
			key, w := "k"+format.String(), Wanted{Format: format, Schema: testSchema}
			for _, f := range []Found{c.Look(t.Context(), key, w), c.LookMany(t.Context(), []string{key, key}, w)[1]} {
				if f.Hit {
					n++
				} else if !errors.Is(f.Err, ErrUnavailable) {
					t.Errorf("neither a hit nor unavailable: %+v", f)
				}
			}
			if l := c.Leases(t.Context(), []string{key}, w)[0]; l.State == LeaseValue {
				n++
			} else if l.State != LeaseBypass {
				t.Errorf("%+v", l)
			}
		}
		return n
	}
	if n := served(); n != 3*len(allFormats) {
		t.Fatalf("%d of %d were served before the outage", n, 3*len(allFormats))
	}
	server.Kill()
	eventually(t, "the breaker opens", func() bool {
		c.Get(t.Context(), "k", Envelope, testSchema)
		return c.Stats().BreakerOpens > 0
	})
	server.Restart()
	eventually(t, "Redis answers again and recovery is asked about", func() bool {
		c.Get(t.Context(), "k", Envelope, testSchema)
		return len(asked) > 0
	})
	eventually(t, "writes get through", func() bool {
		f, err := c.Fence(t.Context(), []string{"kenvelope"})
		if err != nil {
			return false
		}
		return f.Apply(t.Context(), map[string]Entry{"kenvelope": entry(Envelope, "2", 6)}).Stored == 1
	})
	if n := served(); n != 0 {
		t.Errorf("%d were served before recovery", n)
	}
	agree <- errors.New("the outbox is not empty")
	if n := served(); n != 0 || c.Stats().Untrusted != 1 {
		t.Errorf("%d were served although recovery was denied; %d servers are not trusted", n, c.Stats().Untrusted)
	}
	before := c.trust.now()
	agree <- nil
	eventually(t, "trust is regained", func() bool { return c.Stats().Untrusted == 0 })
	if c.trust.since(before, serverOf(c.rdb)) {
		t.Error("what was asked for before recovery would be served")
	}
	if f := c.Look(t.Context(), "kenvelope", Wanted{Schema: testSchema}); !f.Hit || string(f.Value.Payload) != "2" {
		t.Errorf("after recovery: %+v", f)
	}
}

// A replica may lag: it is asked for entries alone, with a breaker of its own, so that a dead
// one costs the primary nothing.
func TestReplica(t *testing.T) {
	primary, replica := testenv.NewRedis(t), testenv.NewRedis(t)
	rdb, far := dial(t, primary.URL), dial(t, replica.URL, func(o *redis.Options) { o.MaxRetries = -1 })
	c := newTestClient(t, rdb, Options{Replica: far, Breaker: BreakerOptions{Failures: 1, OpenFor: patience}})
	behind := newTestClient(t, far, Options{})
	sent := &recorder{}
	far.AddHook(sent)
	for _, format := range allFormats {
		key, w := "k"+format.String(), Wanted{Format: format, Schema: testSchema}
		store(t, c, key, entry(format, "new", 6))
		store(t, behind, key, entry(format, "old", 5))
		if c.Replica(format) == (format == Versioned) {
			t.Errorf("%v: a replica that can be asked: %v", format, c.Replica(format))
		}
		if format == Versioned {
			continue
		}
		sent.take()
		if f := c.LookReplica(t.Context(), []string{key, "absent"}, w); !f[0].Hit || string(f[0].Value.Payload) != "old" || f[1].Hit || f[1].Err != nil {
			t.Errorf("%v: the replica has %+v", format, f)
		}
		if f := c.Look(t.Context(), key, w); !f.Hit || string(f.Value.Payload) != "new" {
			t.Errorf("%v: the primary has %+v", format, f)
		}
		for _, request := range sent.take() {
			if !strings.Contains("mget hmget time hello info client", request) {
				t.Errorf("%v: the replica was sent %s", format, request)
			}
		}
	}
	replica.Kill()
	if f := c.LookReplica(t.Context(), []string{"kenvelope"}, Wanted{Schema: testSchema}); !errors.Is(f[0].Err, ErrUnavailable) {
		t.Errorf("a dead replica: %+v", f)
	}
	if f := c.Look(t.Context(), "kenvelope", Wanted{Schema: testSchema}); !f.Hit {
		t.Errorf("beside a dead replica: %+v", f)
	}
	if s := c.Stats(); s.BreakerOpens != 1 {
		t.Errorf("%d breakers are open, not the replica's alone", s.BreakerOpens)
	}
}

// In a Cluster one MGET takes only keys of one slot.
func TestLookManyInACluster(t *testing.T) {
	for tag, want := range map[string]int{"123456789": 0x31c3, "foo": 12182, "": 0} { // the first is the specification's own
		if got := slotOf("x{" + tag + "}y{z}"); got != want {
			t.Errorf("%q is in slot %d, not %d", tag, got, want)
		}
	}
	rdb, keys := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}}), []string{}
	t.Cleanup(func() { rdb.Close() })
	for tag := range 3 {
		for i := range 4 {
			keys = append(keys, fmt.Sprintf("{org:%d}:%d", tag, i))
		}
	}
	keys = append(keys, "user:1", "user:2")
	names := make([]siblings, len(keys))
	for i, key := range keys {
		names[i], _ = siblingsOf(key)
	}
	for format, want := range map[Format]int{Envelope: 5, Plain: 5, Hash: len(keys)} {
		seen := map[int]bool{}
		questions := questionsFor(t.Context(), rdb, names, format)
		for _, q := range questions {
			for _, at := range q.at {
				seen[at] = true
				if slotOf(names[at].control) != slotOf(names[q.at[0]].control) {
					t.Errorf("%v: one command for %s and for %s", format, keys[at], keys[q.at[0]])
				}
			}
		}
		if len(questions) != want || len(seen) != len(keys) {
			t.Errorf("%v: %d commands for %d keys, not %d", format, len(questions), len(seen), want)
		}
	}
}
