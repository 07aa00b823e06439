package cachesync

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Epoch is since when a server is known as what it is now: what was written before is not trusted.
type Epoch struct {
	Server   string    // its address
	Identity string    // "run_id:master_replid"
	Since    time.Time // by the server's clock; the zero time for always
}

// Epochs reads the Registry of every server. It changes nothing. A server that wtcache has not met has no epoch. The error wraps
// ErrUnavailable or the context's.
func Epochs(ctx context.Context, rdb redis.UniversalClient) ([]Epoch, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		e, err := epochAt(ctx, rdb, serverOf(rdb), Registry)
		return e, explain(ctx, err)
	}
	var mu sync.Mutex // guards all
	var all []Epoch
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		registry, ok := registryAt(ctx, cluster, serverOf(node))
		if !ok {
			return nil
		}
		found, err := epochAt(ctx, node, serverOf(node), registry)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, found...)
		return err
	})
	return all, explain(ctx, err)
}

// sinceLua reads a field where epoch.lua writes it.
const sinceLua = `redis.pcall('SELECT', 0) return redis.call('HGET', KEYS[1], ARGV[1])`

func epochAt(ctx context.Context, node redis.UniversalClient, server, registry string) ([]Epoch, error) {
	ask := func(ctx context.Context, cmd redis.Cmder) error { return node.Process(ctx, cmd) }
	who, err := whoAnswers(ctx, ask)
	if err != nil {
		if isSilence(err) {
			return nil, nil // it does not say who it is
		}
		return nil, err
	}
	millis, err := node.Eval(ctx, sinceLua, []string{registry}, who.String()).Int64()
	switch {
	case err == redis.Nil || isSilence(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", registry, err)
	}
	e := Epoch{Server: server, Identity: who.String()}
	if millis > 0 {
		e.Since = time.UnixMilli(millis)
	}
	return []Epoch{e}, nil
}

// registryAt names the registry of a Cluster's server.
func registryAt(ctx context.Context, cluster *redis.ClusterClient, server string) (string, bool) {
	const tries = 10_000 // a server with a single slot is found after 16,384 on the average; it is no use then
	for n := range tries {
		name := fmt.Sprintf("%s:{%d}", Registry, n)
		node, err := cluster.MasterForKey(ctx, name)
		if err != nil {
			return "", false
		}
		if node.Options().Addr == server {
			return name, true
		}
	}
	return "", false
}
