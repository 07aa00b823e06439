// Command shop is a small web shop over database/sql: products, users and orders, as JSON over HTTP.
//
// It is the same program with two caches. With -cache=wtcache the driver keeps Redis true to the database and the shop's
// own code has no part in it; with -cache=dual the handlers write to Redis themselves (dualwrite.go).
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	_ "github.com/wtcache/wtcache"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

type options struct {
	addr, dsn, cache, redisURL string
	redisTimeout               time.Duration
	migrate, endWithStdin      bool
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("shop", flag.ContinueOnError)
	flags.StringVar(&o.addr, "addr", "localhost:8080", "`address` to listen on")
	flags.StringVar(&o.dsn, "db", os.Getenv("DATABASE_URL"), "the database's `DSN`; DATABASE_URL by default")
	flags.StringVar(&o.cache, "cache", "wtcache", "who keeps the cache: wtcache (the driver) or dual (the handlers)")
	flags.StringVar(&o.redisURL, "redis", os.Getenv("WTCACHE_REDIS"), "Redis' `URL`, for the shop's own reads; WTCACHE_REDIS by default")
	flags.DurationVar(&o.redisTimeout, "redis-timeout", 250*time.Millisecond, "how long a page waits for Redis before it asks the database")
	flags.BoolVar(&o.migrate, "migrate", false, "make the tables and exit")
	flags.BoolVar(&o.endWithStdin, "end-with-stdin", false, "exit when the standard input ends, so that no starter leaves the shop behind")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.dsn == "":
		return o, errors.New("no database: set DATABASE_URL or -db")
	case o.redisURL == "" && !o.migrate:
		return o, errors.New("no Redis: set WTCACHE_REDIS or -redis")
	case o.cache != "wtcache" && o.cache != "dual":
		return o, fmt.Errorf("-cache=%s is unknown; write wtcache or dual", o.cache)
	}
	return o, nil
}

func run(args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if o.endWithStdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // ended is ended
			stop()
		}()
	}
	if o.migrate {
		return migrateOnly(ctx, o.dsn)
	}
	srv, closeAll, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer closeAll()
	return serve(ctx, o.addr, srv.handler())
}

// migrateOnly goes past the cache: while there are no tables there is nothing that a rule could mean.
func migrateOnly(ctx context.Context, dsn string) error {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	return migrate(ctx, db)
}

// open connects the shop. The driver's name is all that changes between the two caches, beside the handlers' own code.
func open(ctx context.Context, o options) (srv *server, closeAll func(), err error) {
	redisOptions, err := redis.ParseURL(o.redisURL)
	if err != nil {
		return nil, nil, fmt.Errorf("read the Redis URL: %w", err)
	}
	driver := "wtcache"
	if o.cache == "dual" {
		driver = "pgx"
	}
	db, err := sql.Open(driver, o.dsn)
	if err != nil {
		return nil, nil, err
	}
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close() // the ping's error is the one to tell
		return nil, nil, err
	}
	rdb := redis.NewClient(redisOptions)
	plain := &store{db}
	srv = &server{shop: plain, reader: &reader{rdb, o.redisTimeout}}
	if o.cache == "dual" {
		srv.shop = &dualStore{plain, rdb}
	}
	return srv, func() { _ = db.Close(); _ = rdb.Close() }, nil
}

// serve listens until ctx ends. The first line on standard output says where, since addr may leave the port open.
func serve(ctx context.Context, addr string, h http.Handler) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return srv.Shutdown(shutdown)
}
