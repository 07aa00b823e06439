package cachesync

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Needs is what a set of rules asks of Redis.
type Needs struct {
	// Strict: a rule promises that no read returns less than what was acknowledged.
	Strict bool
	// Queue and Refuse: rules say so for a Redis that does not take a fence.
	Queue, Refuse bool
	// Versioned: a rule stores its entries in Versioned.
	Versioned bool
	// WaitReplicas is the greatest number of replicas that a rule has its fences wait for.
	WaitReplicas int
	// AcceptEviction is the operator's word that fences may be evicted.
	AcceptEviction bool
	// FenceLife is that of Options.
	FenceLife time.Duration
	// Globs are the patterns of all keys in use, as Options.Globs; Keys are further keys
	// that are fenced.
	Globs, Keys []string
}

// Topology is how the servers of a Redis belong together.
type Topology string

// The topologies.
const (
	Single   Topology = "single"
	Sentinel Topology = "sentinel"
	Cluster  Topology = "cluster"
)

// Condition is what was found of a Redis at one moment. It is not changed once Inspect
// has returned it.
type Condition struct {
	Topology Topology
	// Servers are those that hold keys: every master of a Cluster, else one.
	Servers []Server
}

// Server is what was found of one server. What it would not say is Unknown, or empty.
type Server struct {
	Name     string // its address
	Software string // "Redis", "Valkey", "KeyDB", "Dragonfly" or "miniredis"; "" where it did not say
	Version  string // "7.0.15"; of the Redis that a fork says it is like, where it says no more
	Role     string // "master"; "slave" for a replica
	Uptime   time.Duration

	Policy         string // maxmemory-policy
	MaxMemoryBytes int64  // 0: no bound
	UsedBytes      int64
	EvictedKeys    int64

	Replicas  int64
	AOF       string // appendfsync, "on" where that is not known, or "off"
	Snapshots string // the points of `save`; "off" for none

	Lua Lua
	// Denied is what the user lacks; nil where nothing is lacking that could be asked for.
	Denied []Denied
	// RightsUnknown says why rights could not be asked for; "" where they were.
	RightsUnknown string
	// InfoError is why INFO gave nothing.
	InfoError string
}

// Unknown stands for a number that a server did not say.
const Unknown int64 = -1

// Lua says what became of scripts.
type Lua struct {
	Error      string // why EVAL is refused
	Undeclared string // why keys that were not declared are refused
}

// Denied is a right that the user lacks on names of one kind.
type Denied struct {
	Keys     string   // a pattern for the names, as in an ACL rule; "" for commands without a key
	Commands []string // all that are denied there
	All      bool     // none of the commands is allowed: the keys are out of reach
}

// Inspect asks every server that holds keys what it is, how it is set up, and what the user may do
// there. It changes nothing that another client could see. Facts that a provider hides are Unknown; the error
// is for servers that did not answer, and wraps ErrUnavailable or the context's. The context bounds the whole.
func Inspect(ctx context.Context, rdb redis.UniversalClient, needs Needs) (*Condition, error) {
	if err := accept(rdb); err != nil {
		return nil, err
	}
	cond := &Condition{Topology: topologyOf(rdb)}
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		s, err := inspectServer(ctx, rdb, needs)
		s.Name = serverOf(rdb)
		cond.Servers = []Server{s}
		return cond, explain(ctx, err)
	}
	var mu sync.Mutex // guards cond.Servers
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		s, err := inspectServer(ctx, node, needs)
		s.Name = serverOf(node)
		mu.Lock()
		defer mu.Unlock()
		cond.Servers = append(cond.Servers, s)
		return err
	})
	slices.SortFunc(cond.Servers, func(a, b Server) int { return cmp.Compare(a.Name, b.Name) })
	if err == nil && len(cond.Servers) == 0 {
		err = errors.New("the Cluster names no master")
	}
	return cond, explain(ctx, err)
}

// topologyOf knows a Sentinel's client by the address that go-redis gives it.
func topologyOf(rdb redis.UniversalClient) Topology {
	switch r := rdb.(type) {
	case *redis.ClusterClient:
		return Cluster
	case *redis.Client:
		if r.Options().Addr == "FailoverClient" {
			return Sentinel
		}
	}
	return Single
}

func inspectServer(ctx context.Context, node redis.UniversalClient, needs Needs) (Server, error) {
	s := Server{MaxMemoryBytes: Unknown, UsedBytes: Unknown, EvictedKeys: Unknown, Replicas: Unknown}
	info, err := node.Info(ctx).Result()
	switch {
	case err == nil:
		s.readInfo(info)
	case isRefusal(err):
		s.InfoError, _, _ = strings.Cut(err.Error(), ", with args beginning with")
	default:
		return s, err
	}
	config, err := s.askRights(ctx, node, needs)
	if err != nil || !config {
		return s, err
	}
	return s, s.askConfig(ctx, node)
}

// isRefusal says whether a server has refused this very command, rather than all, or for the moment.
func isRefusal(err error) bool {
	if !isReply(err) || isOutage(err) {
		return false
	}
	for _, all := range []string{"WRONGPASS", "NOAUTH", "CLUSTERDOWN", "BUSY", "ERR max number of clients"} {
		if redis.HasErrorPrefix(err, all) {
			return false
		}
	}
	return true
}

// readInfo takes the facts out of INFO's default sections.
// Source: https://redis.io/docs/latest/commands/info/
func (s *Server) readInfo(text string) {
	f := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			f[name] = value
		}
	}
	s.Software, s.Version = software(f)
	s.Role = f["role"]
	s.Uptime = time.Duration(max(number(f["uptime_in_seconds"]), 0)) * time.Second
	s.Policy = f["maxmemory_policy"]
	if f["cache_mode"] == "cache" {
		s.Policy = "cache_mode" // of Dragonfly, which then evicts whatever it likes
	}
	s.MaxMemoryBytes, s.UsedBytes = number(f["maxmemory"]), number(f["used_memory"])
	s.EvictedKeys, s.Replicas = number(f["evicted_keys"]), number(f["connected_slaves"])
	switch f["aof_enabled"] {
	case "0":
		s.AOF = "off"
	case "1":
		s.AOF = "on"
	}
}

// inMemory is what tests use in place of Redis; it says three things about itself.
const inMemory = "miniredis"

// software tells the forks apart, which all say that they are some version of Redis.
func software(f map[string]string) (name, version string) {
	switch {
	case f["dragonfly_version"] != "":
		return "Dragonfly", strings.TrimPrefix(f["dragonfly_version"], "df-v")
	case f["server_name"] == "valkey" || f["valkey_version"] != "":
		return "Valkey", cmp.Or(f["valkey_version"], f["redis_version"])
	case strings.Contains(f["executable"], "keydb") || f["role"] == "active-replica":
		return "KeyDB", f["redis_version"]
	case f["redis_version"] != "":
		return "Redis", f["redis_version"]
	case len(f) == 3 && f["connected_clients"] != "" && f["total_commands_processed"] != "":
		return inMemory, ""
	}
	return "", ""
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return Unknown
	}
	return n
}

// askConfig asks for what INFO does not say, or did not say here. Many providers have no CONFIG; then it stays
// unknown.
func (s *Server) askConfig(ctx context.Context, node redis.UniversalClient) error {
	names := []string{"save", "appendfsync", "maxmemory", "maxmemory-policy"}
	pipe := node.Pipeline()
	cmds := make([]*redis.MapStringStringCmd, len(names))
	for i, name := range names {
		cmds[i] = pipe.ConfigGet(ctx, name)
	}
	_, _ = pipe.Exec(ctx) // the commands hold their errors
	got := map[string]string{}
	for i, name := range names {
		values, err := cmds[i].Result()
		if err != nil && !isRefusal(err) {
			return err
		}
		if value, known := values[name]; known {
			got[name] = value
		}
	}
	if save, known := got["save"]; known {
		s.Snapshots = cmp.Or(save, "off")
	}
	if s.AOF == "on" {
		s.AOF = cmp.Or(got["appendfsync"], s.AOF)
	}
	if s.Policy == "" {
		s.Policy = got["maxmemory-policy"]
	}
	if s.MaxMemoryBytes == Unknown {
		s.MaxMemoryBytes = number(got["maxmemory"])
	}
	return nil
}
