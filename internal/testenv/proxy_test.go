package testenv

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// count reads past the proxy.
func count(t *testing.T, dsn string) string {
	t.Helper()
	return queryString(t, connect(t, dsn), "SELECT count(*)::text FROM things")
}

// prepare makes a table and a proxy before its database; commit inserts one row through it in a transaction.
func prepare(t *testing.T) (dsn string, p *Proxy, commit func() error) {
	t.Helper()
	dsn, _ = Schema(t, Postgres(t))
	if _, err := connect(t, dsn).Exec(t.Context(), "CREATE TABLE things (id int)"); err != nil {
		t.Fatal(err)
	}
	p = ProxyURL(t, dsn)
	conn := connect(t, p.URL)
	return dsn, p, func() error {
		tx, err := conn.Begin(context.Background())
		if err != nil {
			return err
		}
		if _, err := tx.Exec(context.Background(), "INSERT INTO things VALUES (1)"); err != nil {
			return err
		}
		return tx.Commit(context.Background())
	}
}

// The proxy decides on which side of COMMIT a connection breaks; a wrong side would turn every in-doubt test around.
func TestProxyBreaksAroundCommit(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(*Proxy) <-chan struct{}
		want string
	}{
		{"before the request", func(p *Proxy) <-chan struct{} { return p.CutRequest("COMMIT") }, "0"},
		{"before the reply", func(p *Proxy) <-chan struct{} { return p.CutReply("COMMIT") }, "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dsn, p, commit := prepare(t)
			cut := test.set(p)
			if err := commit(); err == nil {
				t.Error("Commit returned no error")
			}
			<-cut
			if got := count(t, dsn); got != test.want {
				t.Errorf("%s rows, want %s", got, test.want)
			}
		})
	}
}

// A test that looks into the moment between COMMIT and its answer needs that moment to last until it has looked.
func TestProxyHoldsAReply(t *testing.T) {
	dsn, p, commit := prepare(t)
	if err := commit(); err != nil {
		t.Fatal(err)
	}
	trap := p.HoldReply("commit") // must not fall for the COMMIT that has passed
	done := make(chan error, 1)
	go func() { done <- commit() }()
	<-trap.Reached()
	if got := count(t, dsn); got != "2" {
		t.Errorf("%s rows while the reply is held, want 2", got)
	}
	select {
	case err := <-done:
		t.Errorf("Commit returned (%v) while its reply was held", err)
	default:
	}
	trap.Release()
	if err := <-done; err != nil {
		t.Errorf("Commit after Release: %v", err)
	}
}

func TestProxyHoldsARequest(t *testing.T) {
	dsn, p, commit := prepare(t)
	trap := p.HoldRequest("commit")
	done := make(chan error, 1)
	go func() { done <- commit() }()
	<-trap.Reached()
	if got := count(t, dsn); got != "0" {
		t.Errorf("%s rows while the request is held, want 0", got)
	}
	trap.Cut()
	trap.Release() // the first word counts
	if err := <-done; err == nil {
		t.Error("Commit after Cut returned no error")
	}
}

// The same over Redis, whose URL has another form.
func TestProxyBeforeRedis(t *testing.T) {
	s := NewRedis(t)
	p := ProxyURL(t, s.URL)
	ctx := t.Context()
	direct, client := redisClient(t, s.URL), redisClient(t, p.URL)
	if err := client.Set(ctx, "k", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}

	p.Pause()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := client.Get(short, "k").Err(); err == nil {
		t.Error("a paused proxy forwards")
	}
	p.Resume()
	if got, err := client.Get(ctx, "k").Result(); got != "1" {
		t.Errorf("after Resume: %q, %v", got, err)
	}

	cut := p.CutAfterBytes(Requests, 10)
	if err := client.Set(ctx, "k", "2", 0).Err(); err == nil {
		t.Error("a request of more than 10 bytes went through")
	}
	<-cut
	if got := direct.Get(ctx, "k").Val(); got != "1" {
		t.Errorf("the cut request took effect: %s", got)
	}
	if err := client.Set(ctx, "k", "3", 0).Err(); err != nil {
		t.Errorf("the limit was not for once: %v", err)
	}
}

// Some clients write a request in pieces.
func TestTrapFindsWhatTwoChunksShare(t *testing.T) {
	trap := newTrap("COMMIT", false)
	var m matcher
	for _, step := range []struct {
		chunk string
		want  bool
	}{{"select 1; com", false}, {"mi", false}, {"t;", true}, {"x", false}, {"Commit", true}, {"; comm", false}} {
		if got := m.next([]byte(step.chunk), []*Trap{trap}) == trap; got != step.want {
			t.Errorf("chunk %q: caught is %v, want %v", step.chunk, got, step.want)
		}
	}
}

// A server behind a TCP address is proxied on one.
func TestProxyOverTCP(t *testing.T) {
	url, stop, err := startMiniredis()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	p := ProxyURL(t, url)
	client := redisClient(t, p.URL)
	connectable(t, client.Ping(t.Context()).Err())
	p.Cut()
	connectable(t, redisClient(t, p.URL).Ping(t.Context()).Err())

	q := NewProxy(t, "tcp", "127.0.0.1:1") // nobody is there
	dsn := "postgres://u@" + q.Addr + "/db?sslmode=disable"
	if c, err := pgx.Connect(t.Context(), dsn); err == nil {
		c.Close(t.Context())
		t.Error("connected to nobody")
	}
}
