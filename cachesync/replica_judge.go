package cachesync

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// replicaLag is how many bytes of the master's writes a replica may lack before it is worth a word.
const replicaLag = 1 << 20

// JudgeReplica holds the client that reads from replicas against the one of the master: whether it answers, is a replica, of
// this very Redis, and how far it is behind. It changes nothing. What a server does not say is not judged.
func JudgeReplica(ctx context.Context, master, replica redis.UniversalClient) []Finding {
	histories, err := historiesOf(ctx, master)
	if err != nil {
		return nil // the master's own trouble, which Inspect tells
	}
	found, mu := []Finding{}, sync.Mutex{}
	judge := func(ctx context.Context, node redis.UniversalClient) error {
		f := judgeReplica(ctx, node, histories)
		mu.Lock()
		defer mu.Unlock()
		found = merge(found, f)
		return nil
	}
	if cluster, ok := replica.(*redis.ClusterClient); ok {
		seen := 0
		err = cluster.ForEachSlave(ctx, func(ctx context.Context, node *redis.Client) error {
			mu.Lock()
			seen++
			mu.Unlock()
			return judge(ctx, node)
		})
		if err == nil && seen == 0 {
			found = append(found, Finding{Severity: Warning, Subject: "redis replica", Where: "Cluster", Problem: "no replica is known to the Cluster",
				Loss: "reads that may go to a replica go to the masters", Fix: "add replicas, or leave wtcache_redis_replica out"})
		}
	} else {
		err = judge(ctx, replica)
	}
	if err != nil {
		found = append(found, silentReplica("Cluster", err))
	}
	return found
}

func silentReplica(name string, err error) Finding {
	return Finding{Severity: Warning, Subject: "redis replica", Where: name, Problem: "the replica of Redis does not answer: " + err.Error(),
		Loss: "each read that may go to a replica is first refused there, and goes to the master", Fix: "mend wtcache_redis_replica, or leave it out"}
}

// historiesOf gives the replication ids of the master or masters, with their offsets.
func historiesOf(ctx context.Context, master redis.UniversalClient) (map[string]int64, error) {
	all, mu := map[string]int64{}, sync.Mutex{}
	ask := func(ctx context.Context, node redis.UniversalClient) error {
		f, err := replicationOf(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		if id := f["master_replid"]; err == nil && id != "" {
			all[id] = number(f["master_repl_offset"])
		}
		return err
	}
	if cluster, ok := master.(*redis.ClusterClient); ok {
		return all, cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return ask(ctx, node) })
	}
	return all, ask(ctx, master)
}

func replicationOf(ctx context.Context, node redis.UniversalClient) (map[string]string, error) {
	text, err := node.Info(ctx, "replication").Result()
	f := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			f[name] = value
		}
	}
	return f, err
}

func judgeReplica(ctx context.Context, node redis.UniversalClient, masters map[string]int64) (found []Finding) {
	name := serverOf(node)
	say := func(severity Severity, problem, loss, fix string) {
		found = append(found, Finding{Severity: severity, Subject: "redis replica", Where: name, Problem: problem, Loss: loss, Fix: fix})
	}
	f, err := replicationOf(ctx, node)
	if err != nil && !isRefusal(err) {
		return []Finding{silentReplica(name, err)}
	}
	at, same := masters[f["master_replid"]]
	behind := at - max(number(f["slave_repl_offset"]), number(f["master_repl_offset"]))
	switch {
	case err != nil || f["role"] == "" || len(masters) == 0:
		say(Info, "it is not known whether the replica is one of this Redis: INFO says too little", "", "allow INFO to wtcache's user")
	case !same:
		say(Error, "the replica has another Redis' data", "readers that allow a replica are given what this Redis does not hold, of any age", "name a replica of the same master in wtcache_redis_replica")
	case f["role"] == "master":
		say(Info, "the replica is the master itself", "nothing; it takes no load off the master", "name a replica, or leave wtcache_redis_replica out")
	case f["master_link_status"] == "down":
		say(Warning, "the replica has lost its master ("+down(f)+")", "readers that allow a replica are given older and older entries, up to their TTL", "mend the replication")
	case behind > replicaLag:
		say(Warning, fmt.Sprintf("the replica lacks the last %d bytes of its master's writes", behind), "readers that allow a replica are given entries that were replaced", "give the replica more capacity, or have fewer readers allow it")
	default:
		say(Info, "a replica of this Redis answers", "readers that allow a replica can be given what was just replaced, as they were told", "")
	}
	return found
}

// down tells for how long.
func down(f map[string]string) string {
	if s, err := strconv.Atoi(f["master_link_down_since_seconds"]); err == nil && s >= 0 {
		return fmt.Sprintf("%d s ago", s)
	}
	return "since it started"
}
