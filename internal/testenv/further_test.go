package testenv

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The failure tests of the cache believe that these do what they say.
func TestRedisServerSuffersAsTold(t *testing.T) {
	s := NewRedis(t)
	ctx := t.Context()
	client := redisClient(t, s.URL)
	if err := client.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}

	s.Pause()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := client.Get(short, "k").Err(); err == nil {
		t.Error("a paused server answers")
	}
	s.Resume()
	if got, err := client.Get(ctx, "k").Result(); got != "v" {
		t.Errorf("after Resume: %q, %v", got, err)
	}

	s.Kill()
	s.Kill() // of a dead server is nothing
	if err := redisClient(t, s.URL).Ping(ctx).Err(); err == nil {
		t.Error("a killed server answers")
	}
	s.Restart()
	if n, err := redisClient(t, s.URL).Exists(ctx, "k").Result(); n != 0 || err != nil {
		t.Errorf("after Restart: %d keys, %v; want an empty server", n, err)
	}
	s.Pause() // a paused server can be killed, and the cleanup does so
}

func TestRedisServerKeepsDataWhenAsked(t *testing.T) {
	s := NewRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	if err := redisClient(t, s.URL).Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if got, err := redisClient(t, s.URL).Get(t.Context(), "k").Result(); got != "v" {
		t.Errorf("after Restart: %q, %v", got, err)
	}
}

// A crash test that loses committed rows, or that ends sessions politely, would prove nothing.
func TestPostgresServerSurvivesAKill(t *testing.T) {
	s := NewPostgres(t, PostgresOptions{Durable: true})
	ctx := t.Context()
	conn := connect(t, s.URL)
	if _, err := conn.Exec(ctx, "CREATE TABLE things (id int); INSERT INTO things VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	busy := connect(t, s.URL)
	failed := make(chan error, 1)
	go func() {
		_, err := busy.Exec(ctx, "INSERT INTO things VALUES (2); SELECT pg_sleep(3600)")
		failed <- err
	}()
	eventually(t, "the other session sleeps", func() bool {
		return queryString(t, conn, "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
	})
	s.Kill()
	s.Kill() // of a dead server is nothing
	if err := <-failed; err == nil {
		t.Error("the sleeping session ended without an error")
	}
	if c, err := pgx.Connect(ctx, s.URL); err == nil {
		c.Close(ctx)
		t.Error("a killed server takes connections")
	}
	s.Restart()
	if got := queryString(t, connect(t, s.URL), "SELECT count(*)::text FROM things"); got != "1" {
		t.Errorf("after the crash there are %s rows, want the committed one", got)
	}
	s.Stop()
	s.Restart()
	if got := queryString(t, connect(t, s.URL), "SELECT count(*)::text FROM things"); got != "1" {
		t.Errorf("after Stop there are %s rows", got)
	}
}
