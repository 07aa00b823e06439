// Package scratch gives the shop's demo and tests a database and a part of Redis of their own on servers that others may
// be using: the shop's rules name tables of the schema public and fixed keys, so neither a schema nor a key prefix
// would keep two shops apart.
package scratch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
)

// cleanUpLimit bounds what is done after the caller's context may have ended.
const cleanUpLimit = 10 * time.Second

// Database makes an empty database on the server of dsn and gives a DSN for it. drop removes it, with whoever is still
// connected.
func Database(ctx context.Context, dsn string) (fresh string, drop func() error, err error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return "", nil, fmt.Errorf("read the database's DSN: %w", err)
	}
	if !takesPlain(cfg) {
		return "", nil, errors.New("the database's DSN insists on TLS, which the demo's proxies do not speak; write sslmode=disable")
	}
	name := "shop_demo_" + strings.ToLower(rand.Text()[:8])
	if err := execute(ctx, dsn, "CREATE DATABASE "+name); err != nil {
		return "", nil, err
	}
	drop = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), cleanUpLimit)
		defer cancel()
		return execute(ctx, dsn, "DROP DATABASE "+name+" WITH (FORCE)")
	}
	cfg.Database = name
	return PostgresDSN(cfg, cfg.Host, cfg.Port), drop, nil
}

// takesPlain says whether a connection without TLS is among those that the DSN allows. The default, sslmode=prefer, does.
func takesPlain(cfg *pgx.ConnConfig) bool {
	return cfg.TLSConfig == nil || slices.ContainsFunc(cfg.Fallbacks, func(f *pgconn.FallbackConfig) bool {
		return f.TLSConfig == nil && f.Host == cfg.Host && f.Port == cfg.Port
	})
}

func execute(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// PostgresDSN spells a configuration as a DSN that leads to another address. Of the rest it keeps user, password and
// database.
func PostgresDSN(cfg *pgx.ConnConfig, host string, port uint16) string {
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	var b strings.Builder
	for _, pair := range [][2]string{
		{"host", host}, {"port", strconv.Itoa(int(port))}, {"user", cfg.User}, {"password", cfg.Password},
		{"dbname", cfg.Database}, {"sslmode", "disable"},
	} {
		fmt.Fprintf(&b, "%s='%s' ", pair[0], quote.Replace(pair[1]))
	}
	return strings.TrimSpace(b.String())
}

// claimKey marks a logical database of Redis as taken.
const claimKey = "shop_demo:claim"

// Redis takes an empty logical database of a server. release removes the shop's keys from it and gives it
// back. Keys that somebody else left there are not touched.
func Redis(ctx context.Context, server string) (own string, release func() error, err error) {
	o, err := redis.ParseURL(server)
	if err != nil {
		return "", nil, fmt.Errorf("read the Redis URL: %w", err)
	}
	if o.TLSConfig != nil {
		return "", nil, errors.New("the Redis URL asks for TLS, which the demo's proxies do not speak; use redis:// or unix://")
	}
	const databases = 16 // Redis' default
	for n := databases - 1; n >= 0; n-- {
		o.DB = n
		rdb := redis.NewClient(o)
		claimed, err := claim(ctx, rdb)
		if claimed {
			return RedisURL(o, o.Network, o.Addr), func() error { return releaseRedis(rdb) }, nil
		}
		_ = rdb.Close() // nothing was written through it
		if err != nil {
			return "", nil, err
		}
	}
	return "", nil, errors.New("none of Redis' 16 logical databases is empty; name a Redis that the demo may write to")
}

// claim takes the database if it is empty but for the claim itself.
func claim(ctx context.Context, rdb *redis.Client) (bool, error) {
	set, err := rdb.SetNX(ctx, claimKey, "1", 0).Result()
	if err != nil || !set {
		return false, err
	}
	size, err := rdb.DBSize(ctx).Result()
	if err == nil && size == 1 {
		return true, nil
	}
	return false, errors.Join(err, rdb.Del(ctx, claimKey).Err())
}

func releaseRedis(rdb *redis.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpLimit)
	defer cancel()
	return errors.Join(Clean(ctx, rdb), rdb.Del(ctx, claimKey).Err(), rdb.Close())
}

// patterns match every key of the shop's rules, and what wtcache keeps beside them.
var patterns = []string{"product:*", "user:*", "order:*", "{product:*", "{user:*", "{order:*", "wtcache:*", "{wtcache:*"}

// Clean removes the shop's keys.
func Clean(ctx context.Context, rdb redis.UniversalClient) error {
	for _, pattern := range patterns {
		keys, err := Keys(ctx, rdb, pattern)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			continue
		}
		if err := rdb.Del(ctx, keys...).Err(); err != nil {
			return err
		}
	}
	return nil
}

// Keys lists the keys that match a pattern; one may come twice.
func Keys(ctx context.Context, rdb redis.UniversalClient, pattern string) ([]string, error) {
	var keys []string
	scan := rdb.Scan(ctx, 0, pattern, 1000).Iterator()
	for scan.Next(ctx) {
		keys = append(keys, scan.Val())
	}
	return keys, scan.Err()
}

// RedisURL spells options as a URL that leads to another address. Of the rest it keeps user, password and logical
// database.
func RedisURL(o *redis.Options, network, addr string) string {
	u := url.URL{Scheme: "redis", Host: addr}
	if network == "unix" {
		u = url.URL{Scheme: "unix", Path: addr}
	}
	if o.Username != "" || o.Password != "" {
		u.User = url.UserPassword(o.Username, o.Password)
	}
	u.RawQuery = url.Values{"db": {strconv.Itoa(o.DB)}}.Encode()
	return u.String()
}
