// Command demo runs the shop twice through the same accidents: first with a cache that its handlers write themselves, then
// through wtcache. For each run it compares every key in Redis with the database and prints what it found.
//
// It needs a Postgres and a Redis, which "make demo" starts for it. The last line of its output is
// "demo: N keys checked, M stale" for the run through wtcache; the exit code is 1 where M is not 0, or where the check
// could not be made.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/examples/shop/internal/scratch"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // what it broke off in the middle of is of no interest
		}
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	s := servers{dsn: os.Getenv("WTCACHE_TEST_DATABASE_URL"), redis: os.Getenv("WTCACHE_TEST_REDIS_URL")}
	if s.dsn == "" || s.redis == "" {
		return errors.New("no servers: WTCACHE_TEST_DATABASE_URL and WTCACHE_TEST_REDIS_URL are not set; run it with \"make demo\", which starts both")
	}
	d := demo{servers: s, out: out}
	sum, err := d.run(ctx)
	if err != nil {
		return err
	}
	return conclude(out, sum)
}

// conclude writes the last line. Scripts read it.
func conclude(out io.Writer, sum summary) error {
	fmt.Fprintf(out, "demo: %d keys checked, %d stale\n", sum.keys, sum.stale)
	if sum.stale > 0 {
		return errors.New("wtcache has left stale keys")
	}
	return nil
}

// demo is the two runs of the scenario.
type demo struct {
	servers    servers
	buildFlags []string
	out        io.Writer
}

// run gives the summary of the run through wtcache, whatever is stale there. An error means that nothing was proved.
func (d *demo) run(ctx context.Context) (sum summary, err error) {
	if err := d.reach(ctx); err != nil {
		return sum, fmt.Errorf("%w\n(\"make demo\" starts servers of its own)", err)
	}
	dir, err := os.MkdirTemp("", "wtcache-demo-")
	if err != nil {
		return sum, err
	}
	defer os.RemoveAll(dir)
	p, err := build(ctx, dir, d.buildFlags...)
	if err != nil {
		return sum, fmt.Errorf("build the shop: %w", err)
	}
	fmt.Fprintln(d.out, "FIRST RUN: the handlers write to Redis themselves (examples/shop/dualwrite.go)")
	if sum, err = d.scenario(ctx, p, "dual"); err != nil {
		return sum, err
	}
	if err := sum.provesSomething(); err != nil {
		return sum, err
	}
	fmt.Fprintln(d.out, "SECOND RUN: the same scenario, sql.Open(\"wtcache\", dsn)")
	if sum, err = d.scenario(ctx, p, "wtcache"); err != nil {
		return sum, err
	}
	if sum.stale > 0 {
		return sum, nil
	}
	return sum, sum.isKept()
}

// reach finds out whether the servers are there before the shop is built for them.
func (d *demo) reach(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, d.servers.dsn)
	if err != nil {
		return err
	}
	conn.Close(ctx)
	o, err := redis.ParseURL(d.servers.redis)
	if err != nil {
		return fmt.Errorf("read the Redis URL: %w", err)
	}
	rdb := redis.NewClient(o)
	defer rdb.Close()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("connect to Redis: %w", err)
	}
	return nil
}

// scenario plays the scenario with one of the shop's caches, in a database and a part of Redis of its own.
func (d *demo) scenario(ctx context.Context, p program, cache string) (sum summary, err error) {
	own, release, err := d.take(ctx)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := p.migrate(ctx, own); err != nil {
		return sum, err
	}
	s := &scenario{out: d.out, keys: map[string]bool{}, faults: map[string]string{}}
	if cache == "wtcache" {
		s.explain = os.Stderr
	}
	if s.a, err = p.start(ctx, "A", cache, own); err != nil {
		return sum, err
	}
	defer s.a.stop()
	if s.b, err = p.start(ctx, "B", cache, own); err != nil {
		return sum, err
	}
	defer s.b.stop()
	return s.run(ctx, own)
}

// run plays, checks and reports.
func (s *scenario) run(ctx context.Context, own servers) (sum summary, err error) {
	if s.db, err = pgx.Connect(ctx, own.dsn); err != nil {
		return sum, err
	}
	defer s.db.Close(context.WithoutCancel(ctx))
	o, err := redis.ParseURL(own.redis)
	if err != nil {
		return sum, err
	}
	s.rdb = redis.NewClient(o)
	defer s.rdb.Close()
	if err := s.play(ctx); err != nil {
		return sum, err
	}
	findings, err := s.check(ctx)
	if err != nil {
		return sum, err
	}
	s.say("")
	report(s.out, findings)
	s.say("")
	reportAbsent(s.out, findings)
	sum = summarize(findings)
	s.say("  %v\n", sum)
	if sum.stale > 0 && s.explain != nil {
		fmt.Fprintf(s.explain, "shop A wrote:\n%s\nshop B wrote:\n%s\n", s.a.log, s.b.log)
	}
	return sum, nil
}

// take gives a run its own database and its own part of Redis.
func (d *demo) take(ctx context.Context) (own servers, release func() error, err error) {
	own.dsn, release, err = scratch.Database(ctx, d.servers.dsn)
	if err != nil {
		return own, nil, fmt.Errorf("make a database: %w", err)
	}
	redisURL, releaseRedis, err := scratch.Redis(ctx, d.servers.redis)
	if err != nil {
		return own, nil, errors.Join(fmt.Errorf("take an empty part of Redis: %w", err), release())
	}
	own.redis = redisURL
	drop := release
	return own, func() error { return errors.Join(drop(), releaseRedis()) }, nil
}
