package wtcache_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// mirrored is a shelf over a Redis with a replica.
type mirrored struct {
	*shelf
	primary, second *testenv.RedisServer
	replica         *redis.Client // looks at the replica
	asked           *commands     // what the driver under test sends to the replica
	items           *wtcache.Reader[item]
	allowed         *wtcache.Reader[item]
}

func newMirrored(t *testing.T, rule string) *mirrored {
	t.Helper()
	port := freePort(t) // a replica follows over TCP alone
	m := &mirrored{primary: testenv.NewRedis(t, "--port", port, "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"), second: testenv.NewRedis(t), asked: &commands{}}
	m.replica = redisClient(t, m.second.URL)
	s := itemsSetup(rule)
	s.redis = m.primary.URL
	s.config = func(cfg *wtcache.Config) {
		r := redisClient(t, m.second.URL)
		r.AddHook(m.asked)
		cfg.RedisReplica = r
	}
	order(t, m.replica, "REPLICAOF", "127.0.0.1", port)
	first := redisClient(t, m.primary.URL)
	eventually(t, "the replica follows", func() bool {
		far, replicas, err := replication(context.Background(), first)
		return err == nil && far > 0 && replicas >= far
	})
	m.primary.Vouch() // a first replica gives the data another name
	m.shelf = newShelf(t, s)
	m.items, m.allowed = readerOf[item](t, m.db, "items"), readerOf[item](t, m.db, "items", wtcache.ReplicaAllowed())
	m.inSync()
	return m
}

// freePort is a port of this machine that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// inSync waits until the replica has all that the primary has.
func (m *mirrored) inSync() {
	m.t.Helper()
	eventually(m.t, "the replica is in sync", func() bool {
		far, replicas, err := replication(context.Background(), m.rdb)
		return err == nil && replicas >= far
	})
}

// lag makes sure that the replica learns of nothing more.
func (m *mirrored) lag() {
	m.t.Helper()
	m.inSync()
	order(m.t, m.replica, "REPLICAOF", "NO", "ONE")
}

// A reader that allows replicas is served by one and is told so; others are not, and a
// replica that lags gives them nothing old.
func TestReaderReplica(t *testing.T) {
	ctx := context.Background()
	for _, format := range allFormats {
		m := newMirrored(t, "format: "+format+"\n")
		for id := 1; id <= 3; id++ {
			seen(t, m.items, id)
		}
		m.lag()
		m.exec("UPDATE items SET title = 'new' WHERE id = 1")
		asks := format != "versioned" // its reader is a script, which replicas do not run
		want := map[bool]string{true: "old", false: "new"}[asks]
		if row := seen(t, m.allowed, 1); row.Value.Title != want || row.FromReplica != asks || !row.FromCache || row.Age < 0 {
			t.Errorf("%s: a reader that allows replicas gets %+v", format, row)
		}
		rows, err := m.allowed.GetMany(ctx, 2, 1, 2)
		if err != nil || rows[1].Value.Title != want || rows[0].FromReplica != asks || !rows[2].FromCache {
			t.Errorf("%s: GetMany gave %+v, %v", format, rows, err)
		}
		for name, r := range map[string]*wtcache.Reader[item]{"as it is": m.items, "primary only": m.allowed.With(wtcache.PrimaryOnly())} {
			sent := m.asked.during(func() {
				if row := seen(t, r, 1); row.Value.Title != "new" || row.FromReplica || !row.FromCache {
					t.Errorf("%s: %s a reader gets %+v", format, name, row)
				}
			})
			if len(sent) > 0 {
				t.Errorf("%s: %s the replica was sent %v", format, name, sent)
			}
		}
		if s := m.stats(); asks != (s.ReplicaHits > 0) {
			t.Errorf("%s: %d hits at the replica were counted", format, s.ReplicaHits)
		}
	}
}

// skewed is a hook that makes a server's clock look ahead of all others.
type skewed struct{ ahead time.Duration }

func (s skewed) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s skewed) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		c, ok := cmd.(interface {
			Val() any
			SetVal(any)
		})
		if !ok || cmd.Name() != "time" || err != nil {
			return err
		}
		pair := c.Val().([]any)
		seconds, err := strconv.ParseInt(fmt.Sprint(pair[0]), 10, 64)
		c.SetVal([]any{fmt.Sprint(seconds + int64(s.ahead/time.Second)), pair[1]})
		return err
	}
}

func (s skewed) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Entries carry the time of the server that wrote them. A replica's machine may have another
// one: held against that, every entry would be too old, or none ever.
func TestReaderReplicaWithAnotherClock(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		m := newMirrored(t, "ttl: 30m\n")
		m.db, m.sent = m.open(shelfSetup{redis: m.primary.URL, config: func(cfg *wtcache.Config) {
			r := redisClient(t, m.second.URL)
			r.AddHook(skewed{ahead})
			cfg.RedisReplica = r
		}})
		allowed := readerOf[item](t, m.db, "items", wtcache.ReplicaAllowed())
		seen(t, allowed, 1)
		m.inSync()
		if row := seen(t, allowed, 1); !row.FromReplica || row.Age > time.Minute {
			t.Errorf("ahead by %v: %+v", ahead, row)
		}
		backdate(t, m.rdb, m.prefix+"item:1", "", 2*time.Minute)
		m.inSync()
		if row := seen(t, allowed, 1); !row.FromReplica || row.Age < 2*time.Minute {
			t.Errorf("ahead by %v, two minutes old: %+v", ahead, row)
		}
	}
}

// A rule can allow replicas for all its readers, and a call can take that back.
func TestReaderReplicaOfTheRule(t *testing.T) {
	m := newMirrored(t, "read: {replica: true}\n")
	seen(t, m.items, 1)
	m.inSync()
	if row := seen(t, m.items, 1); !row.FromReplica {
		t.Errorf("by the rule: %+v", row)
	}
	if row := seen(t, m.items.With(wtcache.PrimaryOnly()), 1); row.FromReplica || !row.FromCache {
		t.Errorf("primary only: %+v", row)
	}
	if row := seen(t, m.items.With(wtcache.PrimaryOnly(), wtcache.ReplicaAllowed()), 1); !row.FromReplica {
		t.Errorf("the last word was to allow it: %+v", row)
	}
	if row := seen(t, m.items.With(wtcache.Fresh()), 1); row.FromCache {
		t.Errorf("fresh: %+v", row)
	}
}

// That a replica does not have a key says nothing: the primary is asked, and only what a
// lease of the primary allows is filled.
func TestReaderReplicaMiss(t *testing.T) {
	m := newMirrored(t, "negative_ttl: 1h\n")
	m.lag()
	seen(t, m.items, 1)
	if row := seen(t, m.allowed, 1); row.FromReplica || !row.FromCache || row.Value.Title != "old" {
		t.Errorf("what the primary has: %+v", row)
	}
	if row := seen(t, m.allowed, 2); row.FromCache || row.Value.Title != "old" {
		t.Errorf("what neither has: %+v", row)
	}
	if row := seen(t, m.items, 2); !row.FromCache {
		t.Errorf("it was not filled: %+v", row)
	}
	if n := m.replica.Exists(context.Background(), m.prefix+"item:2").Val(); n != 0 {
		t.Error("a reader has stored at the replica")
	}
	// A fence at the primary bars the fill, whatever the replica says of it.
	tx := begin(t, m.db, nil)
	runOn(t, tx, "UPDATE items SET title = 'new' WHERE id = 3")
	wtcache.AtCrashPoint(t, func(p string) {
		if p != "fenced" {
			return
		}
		if row := seen(t, m.allowed, 3); row.FromCache || row.Value.Title != "old" {
			t.Errorf("under a fence: %+v", row)
		}
		if m.there("item:3") {
			t.Error("a reader filled under a fence")
		}
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	// A fence that a replica has not seen yet leaves the old value there, and only there.
	if row := seen(t, m.items, 3); row.Value.Title != "new" || !row.FromCache {
		t.Errorf("after COMMIT: %+v", row)
	}
}

// A replica that is dead, or hangs, costs its deadline and no error.
func TestReaderReplicaDead(t *testing.T) {
	for name, end := range map[string]func(*testenv.RedisServer){"killed": (*testenv.RedisServer).Kill, "stopped": (*testenv.RedisServer).Pause} {
		m := newMirrored(t, "")
		m.db, m.sent = m.open(shelfSetup{redis: m.primary.URL, config: func(cfg *wtcache.Config) {
			impatient(cfg)
			cfg.RedisReplica = redisClient(t, m.second.URL)
		}})
		allowed := readerOf[item](t, m.db, "items", wtcache.ReplicaAllowed())
		seen(t, allowed, 1)
		m.inSync()
		if row := seen(t, allowed, 1); !row.FromReplica {
			t.Fatalf("%s: before: %+v", name, row)
		}
		end(m.second)
		for range 12 {
			if row := seen(t, allowed, 1); row.FromReplica || !row.FromCache || row.Value.Title != "old" {
				t.Errorf("%s: %+v", name, row)
			}
		}
		m.exec("UPDATE items SET title = 'new' WHERE id = 1")
		if row := seen(t, allowed, 1); row.Value.Title != "new" || !row.FromCache {
			t.Errorf("%s: a replica's death has hurt the primary: %+v", name, row)
		}
		if name == "stopped" {
			m.second.Resume()
		}
	}
}

// With Sentinel the URL alone says where replicas are.
func TestReaderReplicaOfSentinel(t *testing.T) {
	url := testenv.Sentinel(t)
	f := newFleet(t, url, "read: {replica: true}\n", func(cfg *wtcache.Config) { cfg.RedisReplicaURL = url })
	replicaServes(t, f)
}

// So with a Cluster, whose replicas serve only those who say that they will take it.
func TestReaderReplicaOfCluster(t *testing.T) {
	url := testenv.Cluster(t)
	f := newFleet(t, url, "read: {replica: true}\n", func(cfg *wtcache.Config) { cfg.RedisReplicaURL = url })
	replicaServes(t, f)
	wantNoCrossSlot(t, f.rdb)
}

func replicaServes(t *testing.T, f *fleet) {
	t.Helper()
	r := readerOf[struct{ ID, N int64 }](t, f.db, "accounts")
	var ids []int
	for id := 1; id <= fleetRows; id++ {
		ids = append(ids, id)
	}
	eventually(t, "replicas serve every key", func() bool {
		rows, err := r.GetMany(context.Background(), wtcache.Keys(ids)...)
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range rows {
			if row.Value.ID != int64(ids[i]) {
				t.Fatalf("key %d gave %+v", ids[i], row)
			}
		}
		return !slices.ContainsFunc(rows, func(row wtcache.Row[struct{ ID, N int64 }]) bool { return !row.FromReplica })
	})
	ctx := wtcache.ReadYourWrites(context.Background())
	for n := int64(1); n <= 20; n++ {
		for _, id := range []int{3, 17, 40} {
			if _, err := f.db.ExecContext(ctx, "UPDATE accounts SET n = $1 WHERE id = $2", n, id); err != nil {
				t.Fatal(err)
			}
			if row, err := r.Row(ctx, id); err != nil || row.Value.N != n {
				t.Errorf("after n = %d a reader gets %+v, %v", n, row, err)
			}
		}
	}
}
