package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A Sentinel set-up has a master, two replicas of it and three Sentinels, two of which have to agree.
const (
	sentinelMaster = "main"
	sentinelRedis  = 3
	sentinelGuards = 3
	sentinelQuorum = 2
)

type redisSentinel struct {
	nodes  []*redisServer // the first one starts as the master
	guards []*redisServer
}

func (s *site) sentinel(ctx context.Context, timeout time.Duration) (_ *redisSentinel, err error) {
	set := &redisSentinel{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start Redis with Sentinels: %w", err), removeAll(set.nodes), removeAll(set.guards))
		}
	}()
	set.nodes, err = startAll(sentinelRedis, func(int) (*redisServer, error) {
		return s.redisNode(ctx, append(manyDatabases(), "--repl-diskless-sync-delay", "0")...)
	})
	if err != nil {
		return nil, err
	}
	for _, r := range set.nodes[1:] {
		if _, err = r.ask(ctx, "replicaof", loopback, set.nodes[0].port); err != nil {
			return nil, err
		}
	}
	// Sentinels learn of replicas from the master, and a failover before that would find none.
	if err = awaitTrue(ctx, "the replicas to be in sync", func() error { return set.inSync(ctx) }); err != nil {
		return nil, err
	}
	set.guards, err = startAll(sentinelGuards, func(int) (*redisServer, error) {
		return s.guard(ctx, sentinelMaster, set.nodes[0].port, timeout)
	})
	if err != nil {
		return nil, err
	}
	if err = set.awaitComplete(ctx); err != nil {
		return nil, err
	}
	return set, set.nodes[0].vouch(ctx, Registry)
}

// guard starts a Sentinel, which keeps its state in the file of its settings.
func (s *site) guard(ctx context.Context, name string, master int, timeout time.Duration) (*redisServer, error) {
	return s.listening(ctx, func(h *home, bin, dir string, port int) (*redisServer, error) {
		r := &redisServer{home: h, bin: bin, dir: dir, port: port, sentinel: true}
		text := fmt.Sprintf("port %d\nbind %s\nunixsocket %s\nunixsocketperm 700\ndir %s\n"+
			"sentinel monitor %[5]s %[2]s %[6]d %[7]d\nsentinel down-after-milliseconds %[5]s %[8]d\n"+
			"sentinel failover-timeout %[5]s 5000\nsentinel parallel-syncs %[5]s 2\n",
			port, loopback, r.socket(), dir, name, master, sentinelQuorum, timeout.Milliseconds())
		if err := os.WriteFile(r.sentinelFile(), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write a Sentinel's settings: %w", err)
		}
		return r, h.give(r.sentinelFile())
	})
}

func (r *redisServer) sentinelFile() string { return filepath.Join(r.dir, "sentinel.conf") }

// awaitComplete waits until the replicas are in sync and every Sentinel knows them and the other Sentinels.
func (set *redisSentinel) awaitComplete(ctx context.Context) error {
	return awaitTrue(ctx, "Redis and its Sentinels to be complete", func() error {
		for _, g := range set.guards {
			if err := g.knowsAll(ctx); err != nil {
				return err
			}
		}
		return set.inSync(ctx)
	})
}

func (set *redisSentinel) inSync(ctx context.Context) error {
	for _, r := range set.nodes {
		info, err := r.ask(ctx, "info", "replication")
		if err != nil {
			return err
		}
		switch role := field(info, "role"); {
		case role == "slave" && field(info, "master_link_status") != "up":
			return fmt.Errorf("%s is not in sync with its master", r.addr())
		case role == "master" && field(info, "connected_slaves") != strconv.Itoa(sentinelRedis-1):
			return fmt.Errorf("%s is followed by %s replicas", r.addr(), field(info, "connected_slaves"))
		}
	}
	return nil
}

func (r *redisServer) knowsAll(ctx context.Context) error {
	if _, err := r.ask(ctx, "sentinel", "ckquorum", sentinelMaster); err != nil {
		return err
	}
	admin := r.admin()
	defer admin.Close()
	master, err := admin.Do(ctx, "sentinel", "master", sentinelMaster).StringSlice()
	if err != nil {
		return fmt.Errorf("ask the Sentinel %s for its master: %w", r.addr(), err)
	}
	want := map[string]int{"num-slaves": sentinelRedis - 1, "num-other-sentinels": sentinelGuards - 1}
	for i := 0; i+1 < len(master); i += 2 {
		if n, asked := want[master[i]]; asked && master[i+1] != strconv.Itoa(n) {
			return fmt.Errorf("the Sentinel %s has %s %s", r.addr(), master[i], master[i+1])
		}
	}
	return nil
}

// url names all Sentinels.
func (set *redisSentinel) url() string {
	q := url.Values{"master_name": {sentinelMaster}}
	for _, g := range set.guards[1:] {
		q.Add("addr", g.addr())
	}
	return set.guards[0].url() + "?" + q.Encode()
}

var sharedSentinel = sync.OnceValues(func() (*redisSentinel, error) {
	return shared.sentinel(context.Background(), calmTimeout)
})

// Sentinel returns the URL of the Redis with Sentinels that the tests of this process share, for redis.ParseFailoverURL,
// starting it at the first call: a master, two replicas and three Sentinels. Tests keep apart by KeyPrefix and break nothing; they
// have databases as with RealRedis.
func Sentinel(t testing.TB) string {
	t.Helper()
	set, err := sharedSentinel()
	require(t, err)
	return ownDatabase(t, set.nodes[0].url(), set.url())
}

// RedisSentinel is a further Redis with Sentinels for one test. Its methods end the test on an error. Not for concurrent use.
type RedisSentinel struct {
	// URL names all Sentinels, for redis.ParseFailoverURL. It stays the same over restarts.
	URL string
	// Nodes are a master and two replicas. Which of them is the master changes by failovers.
	Nodes     []*RedisServer
	Sentinels []*RedisServer

	t   testing.TB
	set *redisSentinel
}

// NewSentinel starts a Redis with Sentinels that is the test's own, until its end. A master that is dead for about two
// seconds is replaced by a replica.
func NewSentinel(t testing.TB) *RedisSentinel {
	t.Helper()
	set, err := shared.sentinel(t.Context(), alertTimeout)
	require(t, err)
	s := &RedisSentinel{URL: set.url(), t: t, set: set}
	for _, r := range set.nodes {
		s.Nodes = append(s.Nodes, &RedisServer{URL: r.url(), t: t, r: r})
	}
	for _, r := range set.guards {
		s.Sentinels = append(s.Sentinels, &RedisServer{URL: r.url(), t: t, r: r})
	}
	t.Cleanup(func() { s.check(errors.Join(removeAll(set.guards), removeAll(set.nodes))) })
	return s
}

func (s *RedisSentinel) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// Master is the node that the Sentinels name and that takes itself for a master.
func (s *RedisSentinel) Master() *RedisServer {
	s.t.Helper()
	master, err := s.master(nil)
	s.check(err)
	return master
}

func (s *RedisSentinel) master(not *RedisServer) (master *RedisServer, err error) {
	for _, g := range s.Sentinels {
		named, err := s.named(g)
		if err != nil {
			return nil, err
		}
		if named == nil || named == not || master != nil && master != named {
			return nil, fmt.Errorf("the Sentinel %s names another master, or none", g.URL)
		}
		master = named
	}
	if master == nil {
		return nil, errors.New("no Sentinel answers")
	}
	info, err := master.r.ask(context.Background(), "info", "replication")
	if err == nil && field(info, "role") != "master" {
		err = fmt.Errorf("%s is no master", master.URL)
	}
	return master, err
}

// named is the master that one Sentinel names.
func (s *RedisSentinel) named(g *RedisServer) (*RedisServer, error) {
	admin := g.r.admin()
	defer admin.Close()
	addr, err := admin.Do(context.Background(), "sentinel", "get-master-addr-by-name", sentinelMaster).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("ask the Sentinel %s: %w", g.URL, err)
	}
	for _, n := range s.Nodes {
		if len(addr) == 2 && addr[1] == strconv.Itoa(n.r.port) {
			return n, nil
		}
	}
	return nil, nil
}

// AwaitPromotion waits until all Sentinels name another master than the dead one, which takes itself for one.
func (s *RedisSentinel) AwaitPromotion(dead *RedisServer) (promoted *RedisServer) {
	s.t.Helper()
	s.check(awaitTrue(context.Background(), "a replica to be promoted", func() (err error) {
		promoted, err = s.master(dead)
		return err
	}))
	return promoted
}

// Failover kills the master and waits until a replica has taken its place.
func (s *RedisSentinel) Failover() (dead, promoted *RedisServer) {
	s.t.Helper()
	dead = s.Master()
	dead.Kill()
	return dead, s.AwaitPromotion(dead)
}

// AwaitComplete waits until all nodes run and are in sync, and every Sentinel knows of them.
func (s *RedisSentinel) AwaitComplete() {
	s.t.Helper()
	s.check(s.set.awaitComplete(context.Background()))
}

// Misled starts one more Sentinel, which takes a server that is a replica for the master, as one that was cut off does
// when the old master has come back. It returns a URL that names this Sentinel alone.
func (s *RedisSentinel) Misled(replica *RedisServer) string {
	s.t.Helper()
	const name = "misled" // the others would correct it about theirs
	g, err := shared.guard(context.Background(), name, replica.r.port, calmTimeout)
	s.check(err)
	s.t.Cleanup(func() { s.check(removeAll([]*redisServer{g})) })
	return g.url() + "?master_name=" + name
}
