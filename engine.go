package wtcache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/outbox"
	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// engine is what the connections of one connector share. It is safe for
// concurrent use.
type engine struct {
	cfg      Config
	log      *slog.Logger
	rules    []*rules.Rule
	sync     *cachesync.Client
	ownRedis []redis.UniversalClient // made from URLs, and not the caller's own
	doubts   *doubts
	behind   behind
	standsIn atomic.Bool // the base is a test's, which expects everything to be done when a call returns
	flights  flights
	standby  *standby    // nil where there is none
	outbox   *outbox.Box // nil where no rule needs one; set before use
	// outboxFits: a connection has found it as it must be. sharesKeys: a rule that queues
	// makes keys absent that may be those of rules that do not.
	outboxFits atomic.Bool
	outboxDB   *sql.DB
	sharesKeys bool
	redisIs    *condition
	replica    redis.UniversalClient // of Redis, nil where there is none
	stats      counters

	// gen is replaced as a whole when the catalogue changes; a connection whose
	// session was probed under another one probes again. It is current while no change
	// was seen since its look began.
	gen     atomic.Pointer[generation]
	changes atomic.Uint64
	loading chan struct{} // holds a token: one catalogue load at a time, waited for under the caller's context

	// epoch rises while ruled tables are written; each connection probes once in one.
	epoch      atomic.Uint64
	epochStart atomic.Int64 // Unix nanoseconds

	said sync.Map // reasons that were logged once

	lastAudit atomic.Pointer[AuditReport]

	nameless atomic.Bool // the database does not tell which it is

	// Of the readers. readEpoch is the epoch of their latest look at the catalogue;
	// catalogueMissed is when one waited for it in vain, by steady, 0 for never; looking: one
	// is being taken behind them; doubted is when a query on a rule's table was last taken
	// for outdated, by the rule's barrier.
	readEpoch       atomic.Uint64
	catalogueMissed atomic.Int64
	looking         atomic.Bool
	doubted         sync.Map // string to *atomic.Int64
}

// generation is the rules as bound to one state of the catalogue, with the plans
// made under it.
type generation struct {
	set    *rules.Set
	names  map[string]bool
	filter *parser.Filter
	plans  *parser.Cache[*textPlan]
	shaped *parser.Cache[*shapePlan] // by shape; see planShaped
	// decoders turn payloads into what readers ask for; they learn the readers' types.
	decoders map[*rules.BoundEntry]*payloadDecoder
	// sessions is rules.Session.Key() -> *rules.Session, so that equal sessions share plans.
	sessions     sync.Map
	sessionCount atomic.Int64
	targets      sync.Map // of readers, by the names that they use: string to target
	// degraded says that the rules no longer fit the catalogue: every ruled write
	// is coarse, and readers fill nothing, until they fit again.
	degraded bool
	loadedAt time.Time
	changes  uint64 // of the engine, when the look at the catalogue began
}

func newGeneration(set *rules.Set, degraded bool) *generation {
	decoders := map[*rules.BoundEntry]*payloadDecoder{}
	for _, t := range set.Tables {
		for _, e := range t.Entries {
			decoders[e] = newPayloadDecoder(e.PayloadType)
		}
	}
	return &generation{
		decoders: decoders,
		set:      set,
		names:    nameSet(set.Names()),
		filter:   parser.NewFilter(append(set.Names(), relativeNames(set)...)),
		plans:    parser.NewCache[*textPlan](defaultPlanEntries, defaultPlanBytes),
		shaped:   parser.NewCache[*shapePlan](defaultPlanEntries, defaultPlanBytes),
		degraded: degraded,
		loadedAt: time.Now(),
	}
}

func newEngine(cfg Config) (*engine, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	e := &engine{cfg: cfg, log: cfg.Logger, loading: make(chan struct{}, 1)}
	e.epochStart.Store(time.Now().UnixNano())
	e.doubts, e.redisIs = newDoubts(e), newCondition(e)
	if cfg.Mode == ModeOff {
		return e, nil
	}
	var err error
	if e.rules, err = loadRules(cfg); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRules, err)
	}
	client, err := e.redis(cfg.Redis, cfg.RedisURL, openRedis)
	if err != nil {
		return nil, err
	}
	e.redisIs.rdb = client
	replica, err := e.redis(cfg.RedisReplica, cfg.RedisReplicaURL, openReplica)
	if err != nil {
		return nil, errors.Join(err, e.closeRedis())
	}
	e.replica = replica
	options := cachesync.Options{
		Replica:   replica,
		FenceLife: cfg.FenceLife,
		Deadline:  cfg.RedisTimeout,
		Logger:    cfg.Logger,
		OnError:   e.reported,
		Globs:     ruleGlobs(e.rules),
		NoHeaders: !slices.ContainsFunc(e.rules, hasHeaders),
	}
	if e.durable() {
		options.Recovered, options.HandOver = e.recovered, e.handOver
	}
	e.sync, err = cachesync.New(client, options)
	if err != nil {
		return nil, errors.Join(configErrorf("%w", err), e.closeRedis())
	}
	e.standby = newStandby(cfg, e.once)
	return e, nil
}

func loadRules(cfg Config) ([]*rules.Rule, error) {
	if cfg.Rules != nil {
		return rules.Load(cfg.Rules)
	}
	return rules.LoadPath(cfg.RulesPath)
}

// ruleGlobs are the patterns that all keys of the rules match.
func ruleGlobs(all []*rules.Rule) []string {
	var globs []string
	for _, r := range all {
		globs = append(globs, r.Globs()...)
	}
	return globs
}

// hasHeaders says whether an entry of the rule has its header in a key of its own.
func hasHeaders(r *rules.Rule) bool {
	return slices.ContainsFunc(r.Entries, func(e *rules.Entry) bool {
		return e.Format == rules.FormatPlain || e.Format == rules.FormatVersioned
	})
}

func (e *engine) close() error {
	if e.sync == nil {
		return nil
	}
	e.doubts.close() // before what it settles with
	e.behind.close() // before what it applies with
	e.redisIs.close()
	return errors.Join(e.sync.Close(), e.closeOutbox(), e.closeRedis(), e.standby.close())
}

func (e *engine) closeRedis() error {
	var errs []error
	for _, client := range e.ownRedis {
		errs = append(errs, client.Close())
	}
	return errors.Join(errs...)
}

// redis gives the caller's own client, or one made from a URL and closed with the
// engine, or nil where there is neither.
func (e *engine) redis(own redis.UniversalClient, url string, open func(string) (redis.UniversalClient, error)) (redis.UniversalClient, error) {
	if own != nil || url == "" {
		return own, nil
	}
	client, err := open(url)
	if err == nil {
		e.ownRedis = append(e.ownRedis, client)
	}
	return client, err
}

// current gives the generation, or nil where there is none that is known to fit the catalogue.
func (e *engine) current() *generation {
	if gen := e.gen.Load(); gen != nil && gen.changes == e.changes.Load() {
		return gen
	}
	return nil
}

// generation gives the rules as bound to the catalogue, loading it through q
// where that has not happened or where the catalogue is known to have changed. q must
// not be inside a transaction, which may see a catalogue that nobody else sees, and
// hold what another loader waits for.
func (e *engine) generation(ctx context.Context, q rules.Querier) (*generation, error) {
	if gen := e.current(); gen != nil {
		return gen, nil
	}
	select {
	case e.loading <- struct{}{}:
		defer func() { <-e.loading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if gen := e.current(); gen != nil {
		return gen, nil
	}
	changes := e.changes.Load() // before the look, so that a change during it asks for another
	gen, err := e.load(ctx, q)
	if err != nil {
		return nil, err
	}
	gen.changes = changes
	e.gen.Store(gen)
	return gen, nil
}

func (e *engine) load(ctx context.Context, q rules.Querier) (*generation, error) {
	catalog, err := rules.LoadCatalog(ctx, q, e.rules)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue for the rules: %w", err)
	}
	set, faults, warnings := rules.Bind(e.rules, catalog)
	if len(faults) > 0 {
		fault := fmt.Errorf("%w: %w", ErrRules, &rules.Error{Findings: faults})
		old := e.gen.Load()
		if old == nil {
			return nil, fault
		}
		// The service was running when the schema changed under it. Its writes must
		// not fail for the cache's sake; its entries become absent instead.
		e.report("the rules no longer fit the catalogue; every write of a ruled table makes its entries absent until they do", fault)
		return newGeneration(old.set, true), nil
	}
	for _, w := range warnings {
		e.once("warning "+w.String(), w.Problem, "where", w.Pos.String(), "fix", w.Fix)
	}
	e.sayDepartures(set)
	return newGeneration(set, false), nil
}

// catalogueChanged makes the next statement of each connection look again.
func (e *engine) catalogueChanged() { e.changes.Add(1) }

// once logs a warning the first time that key is seen. The number of keys is
// bounded by rules and reasons, never by statements.
func (e *engine) once(key, msg string, args ...any) {
	if _, said := e.said.LoadOrStore(key, true); !said {
		e.log.Warn("wtcache: "+msg, args...)
	}
}

// report is for errors that no caller may be given: those after COMMIT and those
// of background work.
func (e *engine) report(msg string, err error) {
	e.log.Error("wtcache: "+msg, "error", err)
	e.reported(fmt.Errorf("%s: %w", msg, err))
}

// reported counts and passes on what cachesync has logged.
func (e *engine) reported(err error) {
	e.stats.backgroundErrors.Add(1)
	e.stats.lastErrors.add(err)
	if e.cfg.OnError != nil {
		e.cfg.OnError(err)
	}
}

// started is where the steady clock begins.
var started = time.Now()

// steady is a clock that is never set, in nanoseconds and never 0.
func steady() int64 { return int64(time.Since(started)) + 1 }

func nameSet(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}
