package torture

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/outbox"
	"github.com/wtcache/wtcache/internal/testenv"
)

// Topology is how Redis is run.
type Topology string

// The topologies.
const (
	Single   Topology = "single"
	Sentinel Topology = "sentinel" // a master, two replicas and three Sentinels
	Cluster  Topology = "cluster"  // three masters and a replica of each
)

// Options choose a World. The zero value of each field means its default.
type Options struct {
	Topology Topology // Single
	Mode     Mode     // Through
	Seed     uint64   // of all that is drawn; 0 draws one

	Writers, Readers int           // processes; 2 each
	Clients          int           // of a process; 3
	Pause            time.Duration // longest pause of a client between operations; 6 ms
	Limit            time.Duration // of one operation; 3 s
	FenceLife        time.Duration // 2 s: short, so that fences expire within a run
	// Settings are further wtcache_… keys of the processes' DSNs, and Rule further lines of every rule file.
	Settings map[string]string
	Rule     string

	// Folder is where processes write histories and logs while they run; "" makes one that Close removes. In Keep a folder is
	// made for what was wrong, if anything was; "" is the system's folder for temporary files.
	Folder, Keep string
	Out          io.Writer // nil: os.Stdout
}

func (o Options) withDefaults() Options {
	o.Topology, o.Mode = cmp.Or(o.Topology, Single), cmp.Or(o.Mode, Through)
	o.Writers, o.Readers, o.Clients = cmp.Or(o.Writers, 2), cmp.Or(o.Readers, 2), cmp.Or(o.Clients, 3)
	o.Pause, o.Limit = cmp.Or(o.Pause, 6*time.Millisecond), cmp.Or(o.Limit, 3*time.Second)
	o.FenceLife = cmp.Or(o.FenceLife, 2*time.Second)
	for o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	return o
}

// World is a Postgres, a Redis and the processes that use them. It is not for concurrent use: one nemesis after the other.
type World struct {
	Postgres *testenv.OwnPostgres
	// Redis is the single one; nil where there is a Fleet, of Sentinels or a Cluster.
	Redis *testenv.OwnRedis
	Fleet *testenv.OwnFleet

	// Rand is for a nemesis's choices.
	Rand *rand.Rand
	// Admin goes past the links and past wtcache, and so does Eye.
	Admin *sql.DB
	Eye   redis.UniversalClient

	opts     Options
	env      *testenv.Env
	dir      string
	rules    string
	redisURL string
	workers  []*Worker
	books    []*book
	serial   int
	began    int64         // of the window of the history that is open
	contents map[int]image // of the tables, at its begin
	kept     string        // the folder of what was wrong
	faults   int
	paused   []int // Postgres' sessions that are stopped
}

// NewWorld starts the servers and the processes, which pause until the first window.
func NewWorld(ctx context.Context, opts Options) (w *World, err error) {
	opts = opts.withDefaults()
	w = &World{opts: opts, Rand: rand.New(rand.NewPCG(opts.Seed, 1))}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if err := w.openFolder(); err != nil {
		return w, err
	}
	if w.env, err = testenv.Start(ctx, testenv.Options{NoPostgres: true, NoRedis: true}); err != nil {
		return w, err
	}
	if err := w.startServers(ctx); err != nil {
		return w, err
	}
	if err := w.fill(ctx); err != nil {
		return w, err
	}
	return w, w.startWorkers()
}

func (w *World) openFolder() (err error) {
	w.dir = w.opts.Folder
	if w.dir == "" {
		w.dir, err = os.MkdirTemp("", "wtcache-torture-")
	} else {
		err = os.MkdirAll(w.dir, 0o755)
	}
	w.rules = filepath.Join(w.dir, "rules")
	return errors.Join(err, writeRules(w.rules, w.opts.Rule))
}

func (w *World) startServers(ctx context.Context) (err error) {
	w.Postgres, err = w.env.NewPostgres(ctx, testenv.PostgresOptions{Settings: map[string]string{"deadlock_timeout": "100ms"}})
	if err != nil {
		return err
	}
	cfg, err := pgx.ParseConfig(w.Postgres.URL)
	if err != nil {
		return err
	}
	if w.Admin, err = sql.Open("pgx", cfg.ConnString()); err != nil {
		return err
	}
	switch w.opts.Topology {
	case Single:
		if w.Redis, err = w.startRedis(ctx, "--dbfilename", "dump.rdb"); err != nil {
			return err
		}
		o, err := redis.ParseURL(w.Redis.URL)
		if err != nil {
			return err
		}
		w.Eye, w.redisURL = redis.NewClient(o), w.Redis.URL
	case Sentinel:
		if w.Fleet, err = w.env.NewSentinel(ctx); err != nil {
			return err
		}
		o, err := redis.ParseFailoverURL(w.Fleet.URL)
		if err != nil {
			return err
		}
		w.Eye, w.redisURL = redis.NewFailoverClient(o), w.Fleet.URL
	case Cluster:
		if w.Fleet, err = w.env.NewCluster(ctx); err != nil {
			return err
		}
		o, err := redis.ParseClusterURL(w.Fleet.URL)
		if err != nil {
			return err
		}
		o.ClusterStateReloadInterval = time.Second
		w.Eye, w.redisURL = redis.NewClusterClient(o), w.Fleet.URL
	default:
		return fmt.Errorf("torture: the topology %q is unknown; it is single, sentinel or cluster", w.opts.Topology)
	}
	return nil
}

func (w *World) fill(ctx context.Context) error {
	for _, text := range []string{ddl, outbox.Schema("")} {
		if _, err := w.Admin.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	for _, p := range places() {
		if _, err := w.Admin.ExecContext(ctx, "INSERT INTO "+p.name()+" (id, code, n) VALUES ($1, $2, 0)", p.row, p.code()); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) startWorkers() error {
	for i := range w.opts.Writers + w.opts.Readers {
		name, r := fmt.Sprintf("writer%d", i+1), writer
		if i >= w.opts.Writers {
			name, r = fmt.Sprintf("reader%d", i-w.opts.Writers+1), reader
		}
		k, err := w.newWorker(name, r)
		if err != nil {
			return err
		}
		if err := k.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Writer draws one of the writing processes, Reader one of the others.
func (w *World) Writer() *Worker { return w.some(writer) }

// Reader draws one of the processes that do not write.
func (w *World) Reader() *Worker { return w.some(reader) }

func (w *World) some(r role) *Worker {
	for {
		if k := w.workers[w.Rand.IntN(len(w.workers))]; k.role == r {
			return k
		}
	}
}

// Links are those of all processes to Redis, or to Postgres.
func (w *World) Links(toRedis bool) (links []*Link) {
	for _, k := range w.workers {
		if !toRedis {
			links = append(links, k.Postgres)
		} else if k.Redis != nil {
			links = append(links, k.Redis)
		}
	}
	return links
}

// Revive heals every process and its links.
func (w *World) Revive(context.Context) error {
	var errs []error
	for _, k := range w.workers {
		errs = append(errs, k.Revive())
	}
	return errors.Join(errs...)
}

// note tells who reads the output that a nemesis could not do what its name says.
func (w *World) note(format string, args ...any) {
	fmt.Fprintf(w.opts.Out, "note: "+format+"\n", args...)
}

// Key is the name in Redis of one of the entries, always the same one.
func (w *World) Key() string { return place{}.names()[0] }

// Close ends the processes and the servers.
func (w *World) Close() error {
	for _, k := range w.workers {
		k.close()
	}
	var errs []error
	if w.Admin != nil {
		errs = append(errs, w.Admin.Close())
	}
	if w.Eye != nil {
		errs = append(errs, w.Eye.Close())
	}
	if w.env != nil {
		errs = append(errs, w.env.Close())
	}
	if w.opts.Folder == "" && w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}
