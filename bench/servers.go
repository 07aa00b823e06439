package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// servers are a Postgres and a Redis of the run's own, and what the reports say of them.
type servers struct {
	env      *testenv.Env
	redis    *testenv.OwnRedis
	admin    *sql.DB
	watch    *redis.Client // asks Redis about itself
	postgres string
	version  string // of Redis
	// farPostgres and farRedis stand a distance before the two.
	farPostgres, farRedis *relay
}

// urls give the servers' addresses, or those that stand before them.
func (s *servers) urls(far bool) (postgres, redis string) {
	if !far {
		return s.env.DatabaseURL, s.redis.URL
	}
	return "postgres:///postgres?" + url.Values{"host": {s.farPostgres.folder}, "port": {"5432"}, "user": {"postgres"}}.Encode(),
		"unix://" + filepath.Join(s.farRedis.folder, farSocket)
}

// Names of unix sockets: Postgres' clients expect this one.
const (
	postgresSocket = ".s.PGSQL.5432"
	farSocket      = "redis.sock"
)

// relays makes the servers' distant addresses.
func (s *servers) relays() (err error) {
	u, err := url.Parse(s.env.DatabaseURL)
	if err != nil {
		return err
	}
	if s.farPostgres, err = newRelay(postgresSocket, filepath.Join(u.Query().Get("host"), postgresSocket)); err != nil {
		return err
	}
	s.farRedis, err = newRelay(farSocket, s.redis.Socket)
	return err
}

// startServers starts them. Postgres waits for the disk at every COMMIT, as in production. Further
// settings keep checkpoints and vacuum, which the ways would meet by chance, out of the slices.
func startServers(ctx context.Context) (_ *servers, err error) {
	s := &servers{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.env, err = testenv.Start(ctx, testenv.Options{NoRedis: true, Postgres: testenv.PostgresOptions{Durable: true, Settings: map[string]string{
		"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "autovacuum": "off", "wal_level": "replica",
		"max_connections": "400",
	}}})
	if err != nil {
		return nil, err
	}
	if s.redis, err = s.env.NewRedis(ctx); err != nil {
		return nil, err
	}
	if err := s.redis.Vouch(ctx); err != nil { // a Redis that has just started caches nothing for a while
		return nil, err
	}
	cfg, err := pgx.ParseConfig(s.env.DatabaseURL)
	if err != nil {
		return nil, err
	}
	s.admin = stdlib.OpenDB(*cfg)
	if s.watch, err = client(s.redis.URL, 1); err != nil {
		return nil, err
	}
	if err := s.relays(); err != nil {
		return nil, err
	}
	if err := s.admin.QueryRowContext(ctx, "SHOW server_version").Scan(&s.postgres); err != nil {
		return nil, err
	}
	s.postgres, _, _ = strings.Cut(s.postgres, " ")
	s.version, err = s.redis.Info(ctx, "server", "redis_version")
	return s, err
}

func (s *servers) close() error {
	var errs []error
	if s.admin != nil {
		errs = append(errs, s.admin.Close())
	}
	if s.watch != nil {
		errs = append(errs, s.watch.Close())
	}
	for _, r := range []*relay{s.farPostgres, s.farRedis} {
		if r != nil {
			errs = append(errs, r.close())
		}
	}
	if s.env != nil {
		errs = append(errs, s.env.Close())
	}
	return errors.Join(errs...)
}

// client gives a client of its own to a way, with a connection for each worker.
func client(url string, conns int) (*redis.Client, error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	opts.ContextTimeoutEnabled = true
	opts.PoolSize, opts.MinIdleConns = conns, conns
	return redis.NewClient(opts), nil
}

// table makes a table of rows for one way: the ways write rows of their own, so that none
// waits for the locks, or searches through the dead rows, of another.
func (s *servers) table(ctx context.Context, name string, rows int) error {
	if _, err := s.admin.ExecContext(ctx, fmt.Sprintf(`
DROP TABLE IF EXISTS %[1]s;
CREATE TABLE %[1]s (id bigint PRIMARY KEY, org_id bigint NOT NULL, name text NOT NULL, email text NOT NULL, role text NOT NULL,
	active boolean NOT NULL, credit bigint NOT NULL, bio text NOT NULL, updated_at timestamptz NOT NULL) WITH (fillfactor = 50);
INSERT INTO %[1]s SELECT n, n %% 10, 'Member number ' || n, 'member' || n || '@example.com', 'contributor', true, n * 7,
	repeat('She writes. ', 11) || 'Daily.', now() FROM generate_series(1, %[2]d) n`, name, rows)); err != nil {
		return err
	}
	_, err := s.admin.ExecContext(ctx, "VACUUM ANALYZE "+name)
	return err
}

// forget removes the entries of a table.
func (s *servers) forget(ctx context.Context, table string) error {
	var cursor uint64
	for {
		keys, next, err := s.watch.Scan(ctx, cursor, "*"+table+":*", 10_000).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := s.watch.Unlink(ctx, keys...).Err(); err != nil {
				return err
			}
		}
		if cursor = next; next == 0 {
			return nil
		}
	}
}

// tidy makes a way's table what it was before its last turn, whose entries are forgotten, and with full an entry for each row.
func (s *servers) tidy(ctx context.Context, w *way, full bool) error {
	for _, text := range []string{"VACUUM " + w.table, "CHECKPOINT"} {
		if _, err := s.admin.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	if !full {
		return nil
	}
	for first := 1; first <= w.rows; first += chunk {
		pipe := s.watch.Pipeline()
		for id := first; id < first+chunk && id <= w.rows; id++ {
			pipe.Set(ctx, w.entry(int64(id)), filler, ttl)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// filler stands for an entry: of some 300 bytes.
var filler = strings.Repeat("She writes. ", 25)
