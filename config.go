package wtcache

import (
	"database/sql"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

// Mode says how much of wtcache is in force.
type Mode string

// The modes.
const (
	// ModeStrict follows each rule's `consistency`. It is the default.
	ModeStrict Mode = "strict"
	// ModeEventual treats every rule as `consistency: eventual`.
	ModeEventual Mode = "eventual"
	// ModeOff hands out the base driver's own connections: nothing is parsed,
	// captured or cached. Entries that are already cached go stale unless another
	// process keeps them.
	ModeOff Mode = "off"
)

// Defaults of a Config.
const (
	DefaultFenceLife       = 30 * time.Second
	DefaultRedisTimeout    = 250 * time.Millisecond
	DefaultMaxCapturedRows = 10_000
	DefaultFillWait        = 100 * time.Millisecond
	DefaultMaxQueuedKeys   = 10_000
	DefaultOutbox          = "wtcache"
	DefaultWatch           = 2 * time.Second
	defaultPlanEntries     = 10_000
	defaultPlanBytes       = 32 << 20
)

// OutboxOff as Config.Outbox keeps what is owed in memory alone.
const OutboxOff = "off"

// Config is all that wtcache needs beside the database's own DSN. The zero value
// of each field means its default. A Config is read once, when a connector is
// made from it, and may be used again.
type Config struct {
	// Redis is the caller's own client; it is not closed by wtcache. Where it is
	// nil a client is made from RedisURL and closed with the *sql.DB.
	Redis redis.UniversalClient
	// RedisURL is redis://, rediss:// or unix://, with `addr=` for a cluster and
	// `master_name=` for Sentinel, as go-redis' ParseURL, ParseClusterURL and
	// ParseFailoverURL read them.
	RedisURL string

	// RedisReplica, or a client made from RedisReplicaURL, reads from replicas of the
	// same Redis. It is asked where a reader or a rule allows it, and for nothing else. For a
	// Cluster or Sentinel it is a client with the switch that go-redis has for that
	// (ReadOnly, ReplicaOnly), which the URL's client gets by itself.
	RedisReplica    redis.UniversalClient
	RedisReplicaURL string

	// Rules holds the rule files (an embed.FS, say). Where it is nil they are
	// read from RulesPath: a folder, a file or a glob.
	Rules     fs.FS
	RulesPath string

	Mode Mode // "" means ModeStrict

	// Logger gets what cannot be returned from a call. nil means slog.Default().
	Logger *slog.Logger
	// OnError is told every error that arises after COMMIT or in the background.
	// It is called on the goroutine where the error arose, must be safe for
	// concurrent use and must not block.
	OnError func(error)
	// Tracer, where it is set, is told of writes and misses as they happen: package wtcacheotel has one for OpenTelemetry.
	// Statements that touch no rule, and hits, are not traced.
	Tracer Tracer

	// FenceLife is how long a fence bars a key when its owner dies. It has to
	// outlive every COMMIT of a dead client; 0 means DefaultFenceLife.
	FenceLife time.Duration
	// RedisTimeout bounds every call to Redis; 0 means DefaultRedisTimeout.
	RedisTimeout time.Duration
	// FillWait is how long a reader waits for another one that is about to fill the
	// key, before it reads the database itself: WaitForFill's default. 0 means
	// DefaultFillWait; under 0 readers do not wait.
	FillWait time.Duration
	// AcceptEviction is the operator's word that Redis may evict fences. Without it a program with
	// strict rules does not start on a Redis whose maxmemory-policy takes them: volatile-ttl and allkeys-*.
	AcceptEviction bool
	// MaxCapturedRows bounds the rows that one transaction keeps in memory. A
	// transaction that writes more makes every entry of the rule absent instead;
	// 0 means DefaultMaxCapturedRows.
	MaxCapturedRows int

	// Outbox is the schema of the database that holds the outbox: what a write owes to
	// Redis when it cannot be fenced and its rule says `redis_down: queue`. "" means
	// DefaultOutbox. Processes that share rules and a Redis share it; those of another Redis
	// need another one. Where it is missing no connection is opened, and the error holds the
	// statements that make it. OutboxOff keeps what is owed in memory alone: it is lost with the
	// process, and until it is settled other processes may serve what was there before.
	Outbox string
	// Watch is how long a process trusts a look at the database that showed nobody writing past
	// Redis; 0 means DefaultWatch. A process that cannot fence waits a little longer than
	// this, once, before its first write without a fence is committed. All processes that
	// share an outbox need the same. Under 0 nobody looks and nobody waits: a process whose
	// Redis answers may then serve the old row until the outbox is drained.
	Watch time.Duration

	// MaxQueuedKeys bounds what an outage of Redis writes to the outbox key by key. Past it
	// every entry of every rule is owed, and a write costs what it costs without wtcache; 0 means
	// DefaultMaxQueuedKeys.
	MaxQueuedKeys int

	// ReadReplica is the caller's own pool of a streaming standby of the primary, opened
	// with plain pgx; it is not closed by wtcache. A miss is read there where the standby
	// is proved to have replayed all that the primary had committed after the lease was
	// granted, else from the primary: a standby that lags, is down, was promoted or follows
	// another primary costs a little time, never a stale entry. Where it is nil a pool
	// is made from ReadReplicaDSN and closed with the *sql.DB.
	//
	// Its role needs pg_read_all_stats (to see which timeline the standby follows) and the
	// same rights to the ruled tables, and the same row-level policies, as the primary's
	// role. A connection of the pool has to lead to one server for as long as it is open; a pooler
	// that changes servers between transactions does not.
	ReadReplica    *sql.DB
	ReadReplicaDSN string
	// ReadReplicaApplied is the operator's word that every commit of a ruled table waits
	// until this very standby shows it: it is in synchronous_standby_names so that none is
	// left out, and no session sets synchronous_commit lower than remote_apply. The primary is then not asked for
	// its position. A COMMIT whose wait is cancelled, as by a context that ends in it, is
	// visible before the standby has it: until it has, such a miss can be stale.
	ReadReplicaApplied bool
}

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	if c.Mode == "" {
		c.Mode = ModeStrict
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.FenceLife == 0 {
		c.FenceLife = DefaultFenceLife
	}
	if c.RedisTimeout == 0 {
		c.RedisTimeout = DefaultRedisTimeout
	}
	if c.FillWait == 0 {
		c.FillWait = DefaultFillWait
	}
	if c.Outbox == "" {
		c.Outbox = DefaultOutbox
	}
	if c.Watch == 0 {
		c.Watch = DefaultWatch
	}
	if c.MaxQueuedKeys == 0 {
		c.MaxQueuedKeys = DefaultMaxQueuedKeys
	}
	if c.MaxCapturedRows == 0 {
		c.MaxCapturedRows = DefaultMaxCapturedRows
	}
	return c
}

// validate reports what cannot work, with what to write instead.
func (c Config) validate() error {
	switch c.Mode {
	case ModeStrict, ModeEventual:
	case ModeOff:
		return nil
	default:
		return configErrorf("mode %q is unknown; write strict, eventual or off", c.Mode)
	}
	if c.Redis == nil && c.RedisURL == "" {
		return configErrorf("no Redis is named; add wtcache_redis=redis://host:6379/0 to the DSN, set WTCACHE_REDIS, or set Config.Redis (wtcache_mode=off runs without)")
	}
	if c.Rules == nil && c.RulesPath == "" {
		return configErrorf("no rules are named; add wtcache_rules=./rules to the DSN, set WTCACHE_RULES, or set Config.Rules (wtcache_mode=off runs without)")
	}
	// A fence shorter than a few Redis calls would end while its COMMIT is still to be sent.
	if c.FenceLife < 4*c.RedisTimeout || c.FenceLife < 0 {
		return configErrorf("a fence life of %v is too short for a Redis timeout of %v; make it at least four times as long (default %v)", c.FenceLife, c.RedisTimeout, DefaultFenceLife)
	}
	if c.RedisTimeout < 0 {
		return configErrorf("the Redis timeout %v is negative; leave it out for %v", c.RedisTimeout, DefaultRedisTimeout)
	}
	if c.MaxQueuedKeys < 0 {
		return configErrorf("max queued keys %d is negative; leave it out for %d", c.MaxQueuedKeys, DefaultMaxQueuedKeys)
	}
	if c.MaxCapturedRows < 0 {
		return configErrorf("max captured rows %d is negative; leave it out for %d", c.MaxCapturedRows, DefaultMaxCapturedRows)
	}
	return c.validateReplica()
}

func (c Config) validateReplica() error {
	switch {
	case c.ReadReplica != nil:
		if _, ours := c.ReadReplica.Driver().(*Driver); ours {
			return configErrorf("Config.ReadReplica was opened through wtcache; open it with pgx")
		}
	case c.ReadReplicaDSN != "":
		if _, err := parseReplica(c.ReadReplicaDSN); err != nil {
			return configErrorf("the read replica's DSN cannot be used: %w", err)
		}
	case c.ReadReplicaApplied:
		return configErrorf("commits wait for a read replica and none is named; add wtcache_read_replica=postgres://replica/… to the DSN, set WTCACHE_READ_REPLICA, or set Config.ReadReplica")
	}
	return nil
}

func configErrorf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrConfig, fmt.Errorf(format, args...))
}
