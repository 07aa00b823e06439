package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Cluster has three masters, which share the slots evenly, and a replica of each.
const (
	clusterMasters = 3
	clusterNodes   = 2 * clusterMasters
	clusterSlots   = 16384
)

// Time without an answer after which a Cluster or a Sentinel takes a server for dead. Servers that all tests share must
// not fail over because the machine is busy; those of a failover test must do so soon.
const (
	calmTimeout  = 30 * time.Second
	alertTimeout = 2 * time.Second
)

type redisCluster struct {
	nodes []*redisServer // masters first; node i+3 starts as the replica of node i
	ids   []string
}

// cluster starts and joins a Cluster. A slot that nobody serves does not keep the others from being served.
func (s *site) cluster(ctx context.Context, timeout time.Duration) (*redisCluster, error) {
	nodes, err := startAll(clusterNodes, func(int) (*redisServer, error) {
		return s.redisNode(ctx, "--cluster-enabled", "yes", "--cluster-node-timeout", strconv.FormatInt(timeout.Milliseconds(), 10),
			"--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0")
	})
	c := &redisCluster{nodes: nodes, ids: make([]string, clusterNodes)}
	if err == nil {
		err = c.join(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a Redis Cluster: %w", err), removeAll(nodes))
	}
	return c, nil
}

func (c *redisCluster) join(ctx context.Context) error {
	for i, r := range c.nodes {
		if err := c.introduce(ctx, i, r); err != nil {
			return err
		}
	}
	for i := clusterMasters; i < clusterNodes; i++ {
		// Refused until gossip has brought the master's name.
		if err := awaitTrue(ctx, "a replica to know its master", func() error {
			_, err := c.nodes[i].ask(ctx, "cluster", "replicate", c.ids[i-clusterMasters])
			return err
		}); err != nil {
			return err
		}
	}
	if err := c.awaitComplete(ctx); err != nil {
		return err
	}
	return c.vouch(ctx)
}

// vouch notes each master in the registry that lies in its first slot that has a name.
func (c *redisCluster) vouch(ctx context.Context) error {
	for i, vouched := 0, 0; vouched < clusterMasters; i++ {
		registry := fmt.Sprintf("%s:{%d}", Registry, i)
		for _, r := range c.nodes[:clusterMasters] {
			if r.vouched {
				continue
			}
			switch err := r.vouch(ctx, registry); {
			case err == nil:
				r.vouched = true
				vouched++
			case !redis.HasErrorPrefix(errors.Unwrap(err), "MOVED"):
				return err
			}
		}
	}
	return nil
}

// introduce gives a node its epoch, which no other has, a master its slots, and makes it known to the first.
func (c *redisCluster) introduce(ctx context.Context, i int, r *redisServer) (err error) {
	if c.ids[i], err = r.ask(ctx, "cluster", "myid"); err != nil {
		return err
	}
	if _, err = r.ask(ctx, "cluster", "set-config-epoch", i+1); err != nil {
		return err
	}
	if i < clusterMasters {
		admin := r.admin()
		defer admin.Close()
		first, last := i*clusterSlots/clusterMasters, (i+1)*clusterSlots/clusterMasters-1
		if err = admin.ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			return fmt.Errorf("give %s its slots: %w", r.addr(), err)
		}
	}
	_, err = c.nodes[0].ask(ctx, "cluster", "meet", loopback, r.port)
	return err
}

// awaitComplete waits until every node that runs sees all slots served, and every replica holds what its master does.
func (c *redisCluster) awaitComplete(ctx context.Context) error {
	return awaitTrue(ctx, "the Cluster to be complete", func() error {
		for _, r := range c.nodes {
			if err := r.completeIn(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *redisServer) completeIn(ctx context.Context) error {
	info, err := r.ask(ctx, "cluster", "info")
	if err != nil {
		return err
	}
	if state, ok := field(info, "cluster_state"), field(info, "cluster_slots_ok"); state != "ok" || ok != strconv.Itoa(clusterSlots) {
		return fmt.Errorf("%s sees %s slots served, its state is %q", r.addr(), ok, state)
	}
	return r.inSync(ctx)
}

// inSync is an error for a replica that does not hold what its master does, and for a master that no replica follows.
func (r *redisServer) inSync(ctx context.Context) error {
	info, err := r.ask(ctx, "info", "replication")
	if err != nil {
		return err
	}
	switch role := field(info, "role"); {
	case role == "slave" && field(info, "master_link_status") != "up":
		return fmt.Errorf("%s is not in sync with its master", r.addr())
	case role == "master" && field(info, "connected_slaves") == "0":
		return fmt.Errorf("no replica follows %s", r.addr())
	}
	return nil
}

func (r *redisServer) slots(ctx context.Context) ([]redis.ClusterSlot, error) {
	admin := r.admin()
	defer admin.Close()
	//lint:ignore SA1019 Redis 6 does not know CLUSTER SHARDS
	slots, err := admin.ClusterSlots(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its slots: %w", r.addr(), err)
	}
	return slots, nil
}

// url names all nodes, so that a client finds the Cluster whichever of them is down.
func (c *redisCluster) url() string {
	q := url.Values{}
	for _, r := range c.nodes[1:] {
		q.Add("addr", r.addr())
	}
	return c.nodes[0].url() + "?" + q.Encode()
}

var sharedCluster = sync.OnceValues(func() (*redisCluster, error) {
	return shared.cluster(context.Background(), calmTimeout)
})

// Cluster returns the URL of the Redis Cluster that the tests of this process share, for redis.ParseClusterURL, starting
// it at the first call: three masters and a replica of each. Tests keep apart by KeyPrefix and break nothing.
func Cluster(t testing.TB) string {
	t.Helper()
	c, err := sharedCluster()
	require(t, err)
	return c.url()
}

// RedisCluster is a further Redis Cluster for one test. Its methods end the test on an error. Not for concurrent use.
type RedisCluster struct {
	// URL names all nodes, for redis.ParseClusterURL. It stays the same over restarts.
	URL string
	// Nodes are three masters, which share the slots evenly in this order, and then a replica of each. Which of them is
	// a master changes by failovers.
	Nodes []*RedisServer

	t testing.TB
	c *redisCluster
}

// NewCluster starts a Redis Cluster that is the test's own, until its end. A master that is dead for about two seconds
// is replaced by its replica. Slots without a master do not keep the others from being served.
func NewCluster(t testing.TB) *RedisCluster {
	t.Helper()
	c, err := shared.cluster(t.Context(), alertTimeout)
	require(t, err)
	s := &RedisCluster{URL: c.url(), t: t, c: c}
	for _, r := range c.nodes {
		s.Nodes = append(s.Nodes, &RedisServer{URL: r.url(), t: t, r: r})
	}
	t.Cleanup(func() { s.check(removeAll(c.nodes)) })
	return s
}

func (s *RedisCluster) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// Master is the node that serves a key.
func (s *RedisCluster) Master(key string) *RedisServer {
	s.t.Helper()
	slot, err := s.Slot(key)
	s.check(err)
	master, err := s.masterOf(slot, nil)
	s.check(err)
	return master
}

// Slot is a key's slot, as the first node that answers reckons it.
func (s *RedisCluster) Slot(key string) (int, error) {
	var err error
	for _, n := range s.Nodes {
		admin := n.r.admin()
		slot, e := admin.ClusterKeySlot(context.Background(), key).Result()
		admin.Close()
		if e == nil {
			return int(slot), nil
		}
		err = errors.Join(err, e)
	}
	return 0, err
}

// masterOf is the node that all nodes that answer take for the slot's master; not counts as none.
func (s *RedisCluster) masterOf(slot int, not *RedisServer) (master *RedisServer, err error) {
	for _, n := range s.Nodes {
		if n == not {
			continue
		}
		slots, err := n.r.slots(context.Background())
		if err != nil {
			continue // it is down
		}
		seen := s.holder(slots, slot)
		if seen == nil || seen == not || master != nil && seen != master {
			return nil, fmt.Errorf("%s sees another master of slot %d, or none", n.r.addr(), slot)
		}
		master = seen
	}
	if master == nil {
		return nil, fmt.Errorf("no node answers for slot %d", slot)
	}
	return master, nil
}

func (s *RedisCluster) holder(slots []redis.ClusterSlot, slot int) *RedisServer {
	for _, r := range slots {
		if r.Start <= slot && slot <= r.End && len(r.Nodes) > 0 {
			for _, n := range s.Nodes {
				if n.r.addr() == r.Nodes[0].Addr {
					return n
				}
			}
		}
	}
	return nil
}

// AwaitPromotion waits until another node than the dead one serves the key, and all that answer say so.
func (s *RedisCluster) AwaitPromotion(dead *RedisServer, key string) (promoted *RedisServer) {
	s.t.Helper()
	slot, err := s.Slot(key)
	s.check(err)
	s.check(awaitTrue(context.Background(), "a replica to be promoted", func() error {
		promoted, err = s.masterOf(slot, dead)
		if err == nil {
			_, err = promoted.r.ask(context.Background(), "get", key)
		}
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		return err
	}))
	return promoted
}

// Failover kills the node that serves a key and waits until its replica does.
func (s *RedisCluster) Failover(key string) (dead, promoted *RedisServer) {
	s.t.Helper()
	dead = s.Master(key)
	dead.Kill()
	return dead, s.AwaitPromotion(dead, key)
}

// AwaitComplete waits until all nodes run, all slots are served and every replica is in sync.
func (s *RedisCluster) AwaitComplete() {
	s.t.Helper()
	s.check(s.c.awaitComplete(context.Background()))
}

// Replica is the node that follows a master.
func (s *RedisCluster) Replica(master *RedisServer) *RedisServer {
	s.t.Helper()
	info, err := master.r.ask(context.Background(), "info", "replication")
	s.check(err)
	for _, n := range s.Nodes {
		if strings.Contains(field(info, "slave0"), fmt.Sprintf("port=%d,", n.r.port)) {
			return n
		}
	}
	s.t.Fatalf("%s has no replica", master.URL)
	return nil
}

// StartMigration opens the way of a slot from the node that serves it to another: from now on each of its keys is served
// by whichever of the two holds it.
func (s *RedisCluster) StartMigration(slot int, to *RedisServer) (from *RedisServer) {
	s.t.Helper()
	ctx := context.Background()
	from, err := s.masterOf(slot, nil)
	s.check(err)
	_, err = to.r.ask(ctx, "cluster", "setslot", slot, "importing", s.id(from))
	s.check(err)
	_, err = from.r.ask(ctx, "cluster", "setslot", slot, "migrating", s.id(to))
	s.check(err)
	return from
}

// MoveKeys moves the keys of a slot that are with one node now to another one.
func (s *RedisCluster) MoveKeys(slot int, from, to *RedisServer) {
	s.t.Helper()
	ctx := context.Background()
	admin := from.r.admin()
	defer admin.Close()
	for {
		keys, err := admin.ClusterGetKeysInSlot(ctx, slot, 100).Result()
		s.check(err)
		if len(keys) == 0 {
			return
		}
		words := []any{"migrate", loopback, to.r.port, "", 0, 5000, "replace", "keys"}
		for _, k := range keys {
			words = append(words, k)
		}
		s.check(admin.Do(ctx, words...).Err())
	}
}

// EndMigration makes the new node the slot's master and waits until all nodes know.
func (s *RedisCluster) EndMigration(slot int, from, to *RedisServer) {
	s.t.Helper()
	for _, n := range []*RedisServer{to, from} {
		_, err := n.r.ask(context.Background(), "cluster", "setslot", slot, "node", s.id(to))
		s.check(err)
	}
	s.check(awaitTrue(context.Background(), "all nodes to see the slot moved", func() error {
		master, err := s.masterOf(slot, nil)
		if err == nil && master != to {
			err = fmt.Errorf("%s serves slot %d", master.URL, slot)
		}
		return err
	}))
}

func (s *RedisCluster) id(n *RedisServer) string {
	s.t.Helper()
	for i, r := range s.c.nodes {
		if r == n.r {
			return s.c.ids[i]
		}
	}
	s.t.Fatalf("%s is no node of this Cluster", n.URL)
	return ""
}
