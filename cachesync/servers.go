package cachesync

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// accept refuses clients whose reads may be older than their writes.
func accept(rdb redis.UniversalClient) error {
	switch r := rdb.(type) {
	case nil:
		return errors.New("wtcache: no redis client was given")
	case *redis.Ring:
		return errors.New("wtcache: a redis.Ring is not supported: it moves keys to other servers when one fails and finds old values when it returns; use a Cluster, Sentinel or single server")
	case *redis.ClusterClient:
		if o := r.Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return errors.New("wtcache: a cluster client that reads from replicas can read what is already replaced; leave ReadOnly, RouteByLatency and RouteRandomly off")
		}
	}
	return nil
}

// doubts are settings of a caller's client that are right while all goes well.
func doubts(rdb redis.UniversalClient) (texts []string) {
	if r, ok := rdb.(*redis.ClusterClient); ok && r.Options().MaxRedirects < 1 {
		texts = append(texts, "the cluster client follows no redirect (MaxRedirects -1): a slot that has moved fails a write's first call")
	}
	return texts
}

// part is what a request has for one server: commands, and where each stands
// in the request.
type part struct {
	server string        // "" where there is only one
	node   *redis.Client // of a Cluster; nil where it is not known
	cmds   []redis.Cmder
	at     []int
}

// partsOf sorts commands by the server that is believed to hold their keys.
// go-redis would do so by itself, but gives every command of a pipeline an
// error when its time ends in the middle of one server's, whatever the others
// had answered.
func partsOf(ctx context.Context, rdb redis.UniversalClient, cmds []redis.Cmder) []part {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return []part{{server: serverOf(rdb), cmds: cmds}}
	}
	var parts []part
	index := make(map[string]int)
	for i, cmd := range cmds {
		server, at := "", (*redis.Client)(nil)
		// Without an answer nothing is known of any server: the request will say so.
		if node, err := cluster.MasterForKey(ctx, keyOf(cmd)); err == nil {
			server, at = node.Options().Addr, node
		}
		n, known := index[server]
		if !known {
			n = len(parts)
			index[server] = n
			parts = append(parts, part{server: server, node: at})
		}
		parts[n].cmds = append(parts[n].cmds, cmd)
		parts[n].at = append(parts[n].at, i)
	}
	return parts
}

// serverOf names a single server, which may be a Cluster's.
func serverOf(rdb redis.UniversalClient) string {
	if r, ok := rdb.(*redis.Client); ok {
		return r.Options().Addr
	}
	return ""
}

// keyOf is the first key of a command.
func keyOf(cmd redis.Cmder) string {
	args, at := cmd.Args(), 1
	if name := cmd.Name(); name == "evalsha" || name == "eval" {
		at = 3 // after the script and the number of keys
	}
	if at >= len(args) {
		return ""
	}
	key, _ := args[at].(string)
	return key
}

// lookAround has a Cluster's client ask who serves which slots. By itself it
// asks after a redirect, which a dead server does not give, and otherwise once
// a minute unless told so: until then it would call the dead one.
func lookAround(rdb redis.UniversalClient) {
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		// It returns at once, and asks at most five times a second.
		cluster.ReloadState(context.Background())
	}
}
