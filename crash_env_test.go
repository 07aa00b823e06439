package wtcache_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
)

// childVariable makes this test binary a service that writes and is killed.
const childVariable = "WTCACHE_TEST_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := beChild([]byte(text)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is a process that runs texts and may kill itself on the way.
type child struct {
	Postgres, Redis, Rules string

	Tx    bool     // by database/sql's transaction; else each text by itself, on one connection
	Texts []string // the last of them, or Commit, is the one that commits
	Loop  bool     // run the texts until the standard input ends, and print what each has returned

	Point   string // kill at this named point
	Request int    // kill before this request to Redis, counted from 1 over the texts

	Readers int  // read account 1 by so many readers at once, when the standard input ends
	Held    bool // and say so once all of them wait

	Fence time.Duration // childFence by default

	Outbox string // its schema; wtcache.OutboxOff by default
}

// Fences of a child live long enough for its calls to Redis on a busy machine, each of which has a quarter of that time. A
// fence that is not acknowledged is owed, and what a process owes dies with it: that is another promise's subject.
const childFence, childFenceOfMany = 4 * time.Second, 20 * time.Second

const childWatch = 200 * time.Millisecond

func beChild(text []byte) error {
	var c child
	if err := json.Unmarshal(text, &c); err != nil {
		return err
	}
	if c.Readers > 0 {
		return c.crowd()
	}
	db, err := c.open()
	if err != nil {
		return err
	}
	defer db.Close()
	if c.Loop {
		return c.loop(db)
	}
	if err := c.run(db); err != nil {
		fmt.Println("error:", err)
	}
	// What is in doubt is settled in the background.
	for {
		s, err := wtcache.StatsOf(db)
		if err != nil || s.InDoubt == s.DoubtCommitted+s.DoubtAborted+s.DoubtFinished+s.DoubtExpired {
			fmt.Println("survived")
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func (c *child) open() (*sql.DB, error) {
	base, err := pgx.ParseConfig(c.Postgres)
	if err != nil {
		return nil, err
	}
	o, err := redis.ParseURL(c.Redis)
	if err != nil {
		return nil, err
	}
	o.ContextTimeoutEnabled, o.MaxRetries = true, -1
	rdb := redis.NewClient(o)
	if c.Request > 0 {
		rdb.AddHook(&killer{at: int64(c.Request)})
	}
	life := cmp.Or(c.Fence, childFence)
	return wtcache.OpenDB(stdlib.GetConnector(*base), wtcache.Config{
		Redis: rdb, Rules: fstest.MapFS{"accounts.yaml": {Data: []byte(c.Rules)}},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), FenceLife: life, RedisTimeout: life / 4,
		Outbox: cmp.Or(c.Outbox, wtcache.OutboxOff), Watch: childWatch,
	})
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal may take a moment
}

// run is the write. Nothing before it, the opening of connections say, comes to a point.
func (c *child) run(db *sql.DB) error {
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.Point != "" {
		wtcache.CrashPoints(func(point string) {
			if point == c.Point {
				if s, err := wtcache.StatsOf(db); c.Outbox == "" && (err != nil || s.Redis.FenceFailures > 0) {
					fmt.Fprintf(os.Stderr, "the child could not fence in time: %v, %+v\n", err, s.Redis)
				}
				die()
			}
		})
	}
	var on interface {
		ExecContext(context.Context, string, ...any) (sql.Result, error)
	} = conn
	var tx *sql.Tx
	if c.Tx {
		if tx, err = conn.BeginTx(ctx, nil); err != nil {
			return err
		}
		on = tx
	}
	for _, text := range c.Texts {
		if _, err := on.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	if c.Tx {
		return tx.Commit()
	}
	return nil
}

// loop prints what each text has returned once it is acknowledged.
func (c *child) loop(db *sql.DB) error {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for i := 0; ; i++ {
		select {
		case <-ended:
			return nil
		default:
		}
		var n int
		if err := db.QueryRow(c.Texts[i%len(c.Texts)]).Scan(&n); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// killer kills the process before one of its requests to Redis.
type killer struct {
	at, seen int64
}

func (k *killer) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (k *killer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		k.count(cmd)
		return next(ctx, cmd)
	}
}

func (k *killer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		k.count(cmds...)
		return next(ctx, cmds)
	}
}

// count leaves out what go-redis says when it opens a connection.
func (k *killer) count(cmds ...redis.Cmder) {
	switch cmds[0].Name() {
	case "hello", "client", "auth", "select":
		return
	}
	if atomic.AddInt64(&k.seen, 1) == k.at {
		die()
	}
}

// start runs a child. Its standard error is the test's.
func (c child) start(t testing.TB) (cmd *exec.Cmd, in io.Closer, out *bufio.Scanner) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stdin, bufio.NewScanner(stdout)
}

// end waits for a child and says whether it was killed.
func (c child) end(t testing.TB) (killed bool) {
	t.Helper()
	cmd, _, out := c.start(t)
	var said bytes.Buffer
	for out.Scan() {
		said.Write(out.Bytes())
		said.WriteByte('\n')
	}
	err := cmd.Wait()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if killed = status.Signaled() && status.Signal() == syscall.SIGKILL; killed {
		return true
	}
	if err != nil || !strings.Contains(said.String(), "survived") {
		t.Fatalf("the child ended by %v after it said %q", err, said.String())
	}
	return false
}
