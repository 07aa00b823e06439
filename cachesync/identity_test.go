package cachesync

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// testenv vouches for its servers under the same name.
func TestRegistryIsTheTestEnvironmentsToo(t *testing.T) {
	if Registry != testenv.Registry {
		t.Errorf("%q, %q", Registry, testenv.Registry)
	}
}

// youngOptions have the shortest quarantine that the protocol allows with a patient deadline.
var youngOptions = Options{Deadline: 250 * time.Millisecond, FenceLife: time.Second, LeaseLife: 100 * time.Millisecond}

var wanted = Wanted{Format: Envelope, Schema: testSchema}

// awaitTrusting waits for the end of a quarantine: a lease is granted, and given back.
func awaitTrusting(t *testing.T, c *Client, key string) {
	t.Helper()
	eventually(t, "the quarantine ends", func() bool {
		l := c.Leases(t.Context(), []string{key}, wanted)[0]
		c.Release(t.Context(), l)
		return l.State == LeaseGranted
	})
}

func mustHit(t *testing.T, c *Client, key, payload string) {
	t.Helper()
	if f := c.Look(t.Context(), key, wanted); !f.Hit || string(f.Value.Payload) != payload {
		t.Fatalf("%s: %+v, want %s", key, f, payload)
	}
}

// mustNotServe fails the test where a reader is served what a restart or failover brought back.
func mustNotServe(t *testing.T, c *Client, rdb redis.UniversalClient, key string) {
	t.Helper()
	if rdb.Exists(t.Context(), key).Val() != 1 {
		t.Fatal("the old value is not there: nothing was tested")
	}
	if f := c.Look(t.Context(), key, wanted); f.Hit {
		t.Errorf("a row from before a commit was served: %s", f.Value.Payload)
	}
	if l := c.Leases(t.Context(), []string{key}, wanted)[0]; l.State != LeaseBypass {
		t.Errorf("lease of a young server: %+v", l)
	}
}

// A Redis that comes back with an old snapshot holds rows from before commits that were
// acknowledged: a reader who is served one is lied to for the rest of the entry's life. It
// must hold for those who saw the restart as for processes that start afterwards.
func TestRestartFromAnOldSnapshot(t *testing.T) {
	server := testenv.NewRedis(t)
	rdb, key := dial(t, server.URL), testenv.KeyPrefix(t)+"1"
	witness := newTestClient(t, rdb, youngOptions)
	store(t, witness, key, entry(Envelope, "1", 5))
	if err := rdb.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	store(t, witness, key, entry(Envelope, "2", 6))
	mustHit(t, witness, key, "2")
	server.Unvouched()
	server.Restart()

	mustNotServe(t, witness, rdb, key)
	if witness.Stats().Distrusted == 0 {
		t.Error("nobody counted what was not trusted")
	}
	later := newTestClient(t, dial(t, server.URL), youngOptions)
	mustNotServe(t, later, rdb, key)
	awaitTrusting(t, later, testenv.KeyPrefix(t)+"2")
	if f := later.Look(t.Context(), key, wanted); f.Hit {
		t.Errorf("after the quarantine the old row was served: %s", f.Value.Payload)
	}
	// The reader makes room for what it reads itself.
	l := later.Leases(t.Context(), []string{key}, wanted)[0]
	if ok, err := later.Fill(t.Context(), l, entry(Envelope, "2", 0)); !ok || err != nil {
		t.Fatalf("%+v: %v, %v", l, ok, err)
	}
	for _, c := range []*Client{witness, later, newTestClient(t, dial(t, server.URL), youngOptions)} {
		mustHit(t, c, key, "2")
	}
}

// A Redis that comes back empty has lost the fences of commits that are under way: a reader
// who fills now stores the row as it was before one of them.
func TestRestartEmptyIsQuarantined(t *testing.T) {
	server := testenv.NewRedis(t)
	rdb, key := dial(t, server.URL), testenv.KeyPrefix(t)+"1"
	writer, reader := newTestClient(t, rdb, youngOptions), newTestClient(t, dial(t, server.URL), youngOptions)
	lease := reader.Leases(t.Context(), []string{key + "b"}, wanted)[0]
	fence := mustFence(t, writer, key)
	server.Unvouched()
	server.Restart()

	if l := reader.Leases(t.Context(), []string{key}, wanted)[0]; l.State != LeaseBypass || l.nonce != "" {
		t.Errorf("a reader may fill what a commit under way is about to change: %+v", l)
	}
	if ok, _ := reader.Fill(t.Context(), lease, entry(Envelope, "1", 0)); ok {
		t.Error("a lease of the server before was used")
	}
	born := mustFence(t, writer, key+"c")
	if r := born.Apply(t.Context(), map[string]Entry{key + "c": entry(Envelope, "1", 5)}); r.Stored != 0 {
		t.Errorf("a fence that was put down beside lost ones stored a payload: %+v", r)
	}
	if r := fence.Apply(t.Context(), map[string]Entry{key: entry(Envelope, "1", 5)}); r.Stored != 0 {
		t.Errorf("a fence that was lost stored a payload: %+v", r)
	}
	awaitTrusting(t, reader, key)
	if reader.Stats().Quarantined == 0 {
		t.Error("nobody counted the leases that were not asked for")
	}
	store(t, writer, key, entry(Envelope, "2", 6))
	mustHit(t, reader, key, "2")
}

// The answer to a request that was under way while somebody else noticed the restart may be
// that of either server.
func TestAnswerAcrossARestartIsNotUsed(t *testing.T) {
	server := testenv.NewRedis(t)
	c, key := newTestClient(t, dial(t, server.URL), Options{}), testenv.KeyPrefix(t)+"1"
	store(t, c, key, entry(Envelope, "1", 5))
	peer := c.peers.of(serverOf(c.rdb))
	known := peer.now.Load()
	peer.notice(identity{run: "another", replication: "one", master: true})
	if c.peers.still(peer, known) != nil {
		t.Error("an answer of the server before would be used")
	}
	mustHit(t, c, key, "1") // who answers was asked again
}

// Every new connection is asked who answers, before it carries anything: without that a
// reader whose pool dials again would be served by the new server as if it were the old one.
func TestConnectionsAreAskedFirst(t *testing.T) {
	server := testenv.NewRedis(t)
	rdb := dial(t, server.URL)
	c, key := newTestClient(t, rdb, youngOptions), testenv.KeyPrefix(t)+"1"
	store(t, c, key, entry(Envelope, "1", 5))
	before := c.peers.of(serverOf(rdb)).now.Load()
	if err := rdb.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	server.Unvouched()
	server.Restart()
	if got := rdb.Get(t.Context(), key).Val(); !strings.Contains(got, `"data":1`) { // not by way of the client
		t.Fatalf("%q", got)
	}
	if after := c.peers.of(serverOf(rdb)).now.Load(); after.same(before) || after.noted {
		t.Errorf("the connection was not asked: %+v", after)
	}
}

// A user who may not ask INFO, or write the registry, is told once, and has a cache.
func TestServerThatDoesNotSay(t *testing.T) {
	for name, rule := range map[string]string{"INFO": "-info", "registry": "resetkeys ~*app:*"} {
		t.Run(name, func(t *testing.T) {
			server := testenv.NewRedis(t)
			admin := dial(t, server.URL)
			args := []any{"acl", "setuser", "app", "on", ">secret", "~*", "&*", "+@all"}
			for _, word := range strings.Fields(rule) {
				args = append(args, word)
			}
			if err := admin.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
			var log safeBuffer
			rdb := dial(t, server.URL, func(o *redis.Options) { o.Username, o.Password = "app", "secret" })
			c := newTestClient(t, rdb, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			store(t, c, "app:1", entry(Envelope, "1", 5))
			mustHit(t, c, "app:1", "1")
			if n := strings.Count(log.String(), "redis does not tell who it is"); n != 1 {
				t.Errorf("it was said %d times", n)
			}
		})
	}
}

// A first replica gives a master's data another name and changes none of them: a cache that
// went cold for it would cost the database a burst of reads.
func TestFirstReplicaChangesNothing(t *testing.T) {
	primary, replica := testenv.NewRedis(t, "--port", "0", "--repl-diskless-sync-delay", "0"), testenv.NewRedis(t)
	_ = replica
	rdb := dial(t, primary.URL)
	who := func() identity {
		i, ok := identityOf(rdb.Info(t.Context(), "server").Val() + "\n" + rdb.Info(t.Context(), "replication").Val())
		if !ok {
			t.Fatal("no identity")
		}
		return i
	}
	before := who()
	after := before
	after.replication = "anew"
	promoted := after
	promoted.virgin = false
	if !after.continues(before) || promoted.continues(before) || (identity{run: "b", master: true, virgin: true}).continues(before) {
		t.Error("which data are the same is judged wrongly")
	}
	c, key := newTestClient(t, rdb, Options{}), testenv.KeyPrefix(t)+"1"
	store(t, c, key, entry(Envelope, "1", 5))
	peer := c.peers.of(serverOf(rdb))
	peer.notice(after)
	now := peer.now.Load()
	ask := func(ctx context.Context, cmd redis.Cmder) error { return c.pose(ctx, rdb, cmd) }
	if err := c.note(t.Context(), rdb, peer, now, ask); err != nil {
		t.Fatal(err)
	}
	if got := peer.now.Load(); got.floor != 0 || got.quarantined() || !got.noted {
		t.Errorf("%+v", got)
	}
	if text := rdb.HGet(t.Context(), Registry, after.String()).Val(); text != "0" {
		t.Errorf("the registry has %q for the new name", text)
	}
}

// The registry must not grow for ever, nor forget what is asked for.
func TestRegistryIsBounded(t *testing.T) {
	server := testenv.NewRedis(t)
	rdb := dial(t, server.URL)
	ask := func(id, system, timeline string) []string {
		texts, err := redis.NewScript(epochScript.source).Run(t.Context(), rdb, []string{Registry}, id, "", system, timeline, 0, 0).StringSlice()
		if err != nil {
			t.Fatal(err)
		}
		return texts
	}
	first := ask("server", "", "0")
	for i := range 200 {
		ask("other"+strconv.Itoa(i), "7", "00000001")
		if again := ask("server", "7", "00000001"); i < 60 && again[1] != first[1] {
			t.Fatalf("%d: the first to ask decides: %v, %v", i, first, again)
		}
	}
	if n := rdb.HLen(t.Context(), Registry).Val(); n > 64 {
		t.Errorf("%d fields", n)
	}
}

// On a greater timeline the database may have lost commits whose rows are cached: serving
// them shows what is nowhere else. On the same one, or a smaller, nothing has happened.
func TestTimelineOfTheDatabase(t *testing.T) {
	server := testenv.NewRedis(t)
	rdb, prefix := dial(t, server.URL), testenv.KeyPrefix(t)
	o := youngOptions
	o.LeaseLife = time.Millisecond
	c := newTestClient(t, rdb, o)
	written := func(timeline string, n string) Entry {
		e := entry(Envelope, n, 5)
		e.Version = timeline + e.Version[8:]
		return e
	}
	c.NewEpoch("7000", "00000002")
	store(t, c, prefix+"1", written("00000002", "1"))
	c.NewEpoch("7000", "00000002")
	c.NewEpoch("7000", "00000001")
	c.NewEpoch("", "00000009")
	c.NewEpoch("7000", "later")
	mustHit(t, c, prefix+"1", "1")

	late := mustFence(t, c, prefix+"2") // its COMMIT is the old primary's
	c.NewEpoch("7000", "00000003")
	if f := c.Look(t.Context(), prefix+"1", wanted); f.Hit {
		t.Errorf("a commit that the database has lost was served: %+v", f)
	}
	late.Apply(t.Context(), map[string]Entry{prefix + "2": written("00000002", "2")})
	if f := c.Look(t.Context(), prefix+"2", wanted); f.Hit {
		t.Errorf("a commit that the database has lost was served, since it was applied late: %+v", f)
	}
	store(t, c, prefix+"1", written("00000003", "3"))
	time.Sleep(2 * time.Millisecond) // past the grace for fills
	store(t, c, prefix+"1", written("00000003", "4"))
	mustHit(t, c, prefix+"1", "4")

	// A process that has heard of no failover learns of it from the registry.
	other := newTestClient(t, dial(t, server.URL), o)
	other.NewEpoch("7000", "00000002")
	if f := other.Look(t.Context(), prefix+"2", wanted); f.Hit {
		t.Errorf("a process that saw no failover served a lost commit: %+v", f)
	}
	mustHit(t, other, prefix+"1", "4")
}

// A replica that takes over may have a copy of a lease or a fence and lack what came after
// them: whoever fills or applies under the copy stores an older row than the last commit's.
func TestCopiesOfLeasesAndFencesStoreNothing(t *testing.T) {
	server := testenv.NewRedis(t)
	c, prefix := newTestClient(t, dial(t, server.URL), Options{}), testenv.KeyPrefix(t)
	peer := c.peers.of(serverOf(c.rdb))
	another := func() { peer.notice(identity{run: newToken(), replication: "1", master: true}) }

	lease := c.Leases(t.Context(), []string{prefix + "1"}, wanted)[0]
	another()
	if ok, err := c.Fill(t.Context(), lease, entry(Envelope, "1", 0)); ok || err != nil || lease.State != LeaseGranted {
		t.Errorf("a fill under the copy of a lease: %v, %v", ok, err)
	}
	fence := mustFence(t, c, prefix+"2")
	another()
	if r := fence.Apply(t.Context(), map[string]Entry{prefix + "2": entry(Envelope, "1", 5)}); r.Dropped != 1 {
		t.Errorf("an apply under the copy of a fence: %+v", r)
	}
	fence = mustFence(t, c, prefix+"3")
	fence.held[0].from.known = &incarnation{noted: true, who: identity{run: "before"}}
	if err := fence.extend(); err != nil || !fence.held[0].bare {
		t.Errorf("the renewal of a copy: %v, bare: %v", err, fence.held[0].bare)
	}
	fence.Abort(t.Context())
}

// A Redis that has run for long when the first program comes has lost nothing that anybody knew: a quarantine would only make
// everybody's first minute slow. One that has just begun may have lost everything, its registry too.
func TestTheFirstToAskOfAnOldServer(t *testing.T) {
	server := testenv.NewRedis(t)
	rdb := dial(t, server.URL)
	ask := func(id string, alone int64) (age int64) {
		t.Helper()
		texts, err := redis.NewScript(epochScript.source).Run(t.Context(), rdb, []string{Registry}, id, "", "", "0", 0, alone).StringSlice()
		if err != nil {
			t.Fatal(err)
		}
		now, _ := strconv.ParseInt(texts[0], 10, 64)
		since, _ := strconv.ParseInt(texts[1], 10, 64)
		return now - since
	}
	rdb.Del(t.Context(), Registry)
	if age := ask("a", 60_000); age != 60_000 {
		t.Errorf("a server that ran for a minute counts as %d ms old", age)
	}
	if age := ask("b", 60_000); age != 0 {
		t.Errorf("a successor, which may lack anything, counts as %d ms old", age)
	}
	old := identity{run: "a", replication: "a", virgin: true, master: true, born: steady() - int64(time.Minute)}
	if old.aloneMillis() < 60_000 {
		t.Error("the time it has run does not count")
	}
	for _, other := range []identity{{born: 1, master: true}, {born: 1, virgin: true}, {virgin: true, master: true}} {
		if other.aloneMillis() != 0 {
			t.Errorf("%+v may have been a replica that lacks fences, and counts as old", other)
		}
	}
	if !old.is(identity{run: "a", replication: "a", virgin: true, master: true, born: 7}) {
		t.Error("a server is another one at every look: nothing would ever be served")
	}
}

// What a server lost it lost in all of its databases, and one that was not used before need
// not be cold for what is known of the server.
func TestRegistryIsTheServers(t *testing.T) {
	server := testenv.NewRedis(t)
	rdb := dial(t, server.URL, func(o *redis.Options) { o.DB = 7 })
	c, key := newTestClient(t, rdb, Options{}), testenv.KeyPrefix(t)+"1"
	store(t, c, key, entry(Envelope, "1", 5))
	mustHit(t, c, key, "1")
	if rdb.Exists(t.Context(), Registry).Val() != 0 || rdb.Exists(t.Context(), key).Val() != 1 {
		t.Error("the registry lies beside the entries, or they beside it")
	}
}

// The registry lies in database 0, whatever database a program uses: status must find it there.
func TestEpochsOfAnotherDatabase(t *testing.T) {
	server := testenv.NewRedis(t)
	for _, db := range []int{0, 7} {
		rdb := dial(t, server.URL, func(o *redis.Options) { o.DB = db })
		store(t, newTestClient(t, rdb, Options{}), testenv.KeyPrefix(t)+"1", entry(Envelope, "1", 5)) // it has met the server
		if all, err := Epochs(t.Context(), rdb); err != nil || len(all) != 1 {
			t.Errorf("database %d: %v, %v, want the server's epoch", db, all, err)
		}
	}
}
