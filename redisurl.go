package wtcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of the clients that are made from a URL, where the URL has nothing
// else. A server that is gone must be noticed soon: the rest of a call's time is
// for its successor.
const (
	redisDialTimeout = time.Second
	redisDialTries   = 1
	// A Cluster's client also asks for the slots' servers after each redirect and
	// after each failure to reach one; go-redis' own default is a minute.
	clusterReload = 5 * time.Second
)

// openRedis makes the client that a URL describes, without dialling. All of them
// are bounded by the contexts of their calls and repeat nothing by themselves: a
// fence or lease that is sent twice would break the protocol.
func openRedis(rawURL string) (redis.UniversalClient, error) { return openURL(rawURL, false) }

// openReplica makes a client that reads from replicas.
func openReplica(rawURL string) (redis.UniversalClient, error) { return openURL(rawURL, true) }

func openURL(rawURL string, replicas bool) (redis.UniversalClient, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, redisURLError(rawURL, err)
	}
	var client redis.UniversalClient
	switch query := u.Query(); {
	case query.Has("master_name"):
		client, err = openSentinel(rawURL, replicas)
	case query.Has("addr"):
		client, err = openCluster(rawURL, replicas)
	default:
		client, err = openSingle(rawURL)
	}
	if err != nil {
		return nil, redisURLError(rawURL, err)
	}
	return client, nil
}

func openSingle(rawURL string) (redis.UniversalClient, error) {
	o, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, err
	}
	o.ContextTimeoutEnabled, o.MaxRetries = true, -1
	o.DialTimeout, o.DialerRetries = cmp.Or(o.DialTimeout, redisDialTimeout), cmp.Or(o.DialerRetries, redisDialTries)
	return redis.NewClient(o), nil
}

func openCluster(rawURL string, replicas bool) (redis.UniversalClient, error) {
	o, err := redis.ParseClusterURL(rawURL)
	if err != nil {
		return nil, err
	}
	if !replicas && (o.ReadOnly || o.RouteByLatency || o.RouteRandomly) {
		return nil, errReplicaReads
	}
	o.ReadOnly = replicas
	o.ContextTimeoutEnabled, o.MaxRetries = true, -1
	o.DialTimeout, o.DialerRetries = cmp.Or(o.DialTimeout, redisDialTimeout), cmp.Or(o.DialerRetries, redisDialTries)
	o.ClusterStateReloadInterval = clusterReload
	return redis.NewClusterClient(o), nil
}

func openSentinel(rawURL string, replicas bool) (redis.UniversalClient, error) {
	o, err := redis.ParseFailoverURL(rawURL)
	switch {
	case err != nil:
		return nil, err
	case o.MasterName == "":
		return nil, errors.New("master_name is empty")
	case !replicas && (o.ReplicaOnly || o.RouteByLatency || o.RouteRandomly):
		return nil, errReplicaReads
	}
	o.ReplicaOnly = replicas
	o.ContextTimeoutEnabled, o.MaxRetries = true, -1
	o.DialTimeout, o.DialerRetries = cmp.Or(o.DialTimeout, redisDialTimeout), cmp.Or(o.DialerRetries, redisDialTries)
	if !replicas {
		o.OnConnect = refuseReplica
	}
	return redis.NewFailoverClient(o), nil
}

var errReplicaReads = errors.New("reads from replicas can return what is already replaced; leave read_only, replica_only, route_by_latency and route_randomly out")

// refuseReplica refuses a connection to a server that is no master any more. A
// Sentinel that was cut off names the old one, which may have come back as a
// replica: it would refuse writes and go on serving reads. go-redis asks it of
// connections to the Sentinels, too, which have a role of their own.
// Source: https://redis.io/docs/latest/develop/reference/sentinel-clients/
func refuseReplica(ctx context.Context, conn *redis.Conn) error {
	role, err := conn.Do(ctx, "role").Slice()
	if _, refused := errors.AsType[redis.Error](err); refused {
		return nil // the user may not ask
	}
	if err != nil {
		return err
	}
	if len(role) > 0 && role[0] == "slave" {
		return errReplica
	}
	return nil
}

var errReplica = errors.New("wtcache: the server that Sentinel named is a replica")

// redisURLError never repeats a password, neither the URL's nor one in its query. Of
// a text that cannot be taken apart any piece may be one.
func redisURLError(rawURL string, err error) error {
	shown := "the Redis URL"
	switch u, perr := url.Parse(rawURL); {
	case perr != nil:
		err = errors.New("it is not a URL (in a password, characters like / ? # @ % have to be escaped)")
	case u.Host != "":
		shown = fmt.Sprintf("the Redis URL %q", u.Scheme+"://"+u.Host+u.Path)
	}
	return configErrorf("%s cannot be used: %w; write it like redis://user:password@host:6379/0, rediss://…, unix:///run/redis.sock, with ?addr=… for a cluster or ?master_name=… for Sentinel", shown, err)
}
