package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/examples/shop/internal/scratch"
)

const (
	shopPackage  = "github.com/wtcache/wtcache/examples/shop"
	requestLimit = 30 * time.Second
)

// program is the shop, built, and the folder of its rules.
type program struct{ binary, rules string }

// build compiles the shop into dir.
func build(ctx context.Context, dir string, flags ...string) (program, error) {
	folder, err := goTool(ctx, "list", "-f", "{{.Dir}}", shopPackage)
	if err != nil {
		return program{}, err
	}
	p := program{filepath.Join(dir, "shop"), filepath.Join(strings.TrimSpace(folder), "rules")}
	_, err = goTool(ctx, append(append([]string{"build"}, flags...), "-o", p.binary, shopPackage)...)
	return p, err
}

func goTool(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// Asked to end, it takes its compilers along.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = requestLimit
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, &stderr)
	}
	return stdout.String(), nil
}

// servers are the database and the part of Redis that a run has for itself.
type servers struct{ dsn, redis string }

// process is one running shop with its own way to Postgres and to Redis.
type process struct {
	name  string
	pg    *pgProxy
	redis *redisProxy

	cmd    *exec.Cmd
	stdin  io.Closer // the shop ends with it
	log    *lockedBuffer
	exited chan struct{}
	url    string
	client *http.Client
}

// migrate makes the shop's tables.
func (p program) migrate(ctx context.Context, s servers) error {
	cmd := exec.CommandContext(ctx, p.binary, "-migrate", "-db", s.dsn)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the shop's tables: %w\n%s", err, out)
	}
	return nil
}

// start runs a shop behind two proxies and waits until it listens.
func (p program) start(ctx context.Context, name, cache string, s servers) (_ *process, err error) {
	sp := &process{
		name: name, log: &lockedBuffer{}, exited: make(chan struct{}),
		// A shop that is killed must be seen as such: no kept-alive connection, no silent second try.
		client: &http.Client{Timeout: requestLimit, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	defer func() {
		if err != nil {
			sp.stop()
		}
	}()
	dsn, redisURL, err := sp.startProxies(s)
	if err != nil {
		return nil, err
	}
	sp.cmd = exec.Command(p.binary, "-addr", "127.0.0.1:0", "-cache", cache, "-redis-timeout", "5s", "-end-with-stdin")
	sp.cmd.Env = append(environ(), "DATABASE_URL="+dsn, "WTCACHE_REDIS="+redisURL, "WTCACHE_RULES="+p.rules,
		// On a loaded machine the default deadline would turn a slow answer into an absent key, which shows nothing.
		"WTCACHE_REDIS_TIMEOUT=5s")
	sp.cmd.Stderr = sp.log
	// A terminal's Ctrl-C is for the demo, which then ends its shops.
	sp.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := sp.run(ctx); err != nil {
		return nil, fmt.Errorf("start shop %s: %w\n%s", name, err, sp.log)
	}
	return sp, nil
}

// environ is the demo's own environment without settings that would change the shop.
func environ() []string {
	var kept []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "PG") && (!strings.HasPrefix(name, "WTCACHE_") || strings.HasPrefix(name, "WTCACHE_TEST_")) {
			kept = append(kept, pair)
		}
	}
	return kept
}

func (p *process) startProxies(s servers) (dsn, redisURL string, err error) {
	cfg, err := pgx.ParseConfig(s.dsn)
	if err != nil {
		return "", "", err
	}
	if p.pg, err = newPGProxy(pgconn.NetworkAddress(cfg.Host, cfg.Port)); err != nil {
		return "", "", err
	}
	o, err := redis.ParseURL(s.redis)
	if err != nil {
		return "", "", err
	}
	if p.redis, err = newRedisProxy(o.Network, o.Addr); err != nil {
		return "", "", err
	}
	addr := p.pg.addr()
	return scratch.PostgresDSN(cfg, addr.IP.String(), uint16(addr.Port)),
		scratch.RedisURL(o, "tcp", p.redis.addr().String()), nil
}

func (p *process) run(ctx context.Context) error {
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	first := make(chan string, 1)
	go func() {
		out := bufio.NewReader(stdout)
		line, _ := out.ReadString('\n') // what came before the end is judged by the receiver
		first <- line
		_, _ = io.Copy(io.Discard, out)
		_ = p.cmd.Wait() // how it ended is told by its log
		close(p.exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	select {
	case line := <-first:
		var ok bool
		if p.url, ok = strings.CutPrefix(strings.TrimSpace(line), "listening on "); !ok {
			return errors.New("it ended without listening")
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait until it listens: %w", context.Cause(ctx))
	}
}

// kill is SIGKILL: the process does nothing more. It returns when the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.exited
}

// stop ends the shop and its proxies, in whatever state they are.
func (p *process) stop() {
	if p.stdin != nil {
		p.stdin.Close()
	}
	if p.cmd != nil && p.cmd.Process != nil {
		select {
		case <-p.exited:
		case <-time.After(2 * time.Second):
			p.kill()
		}
	}
	if p.pg != nil {
		p.pg.close()
	}
	if p.redis != nil {
		p.redis.close()
	}
}

// reply is what a shop answered.
type reply struct {
	status int
	cache  string // X-Cache: hit or miss, "" for writes
	doc    []byte
}

// call sends one request. out, where it is not nil, gets the reply's JSON. A status that is not the one wanted is an error.
func (p *process) call(ctx context.Context, method, path string, in, out any, want int) error {
	r, err := p.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	if r.status != want {
		return fmt.Errorf("shop %s: %s %s: status %d, not %d: %s\n%s", p.name, method, path, r.status, want, r.doc, p.log)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(r.doc, out); err != nil {
		return fmt.Errorf("shop %s: decode the reply to %s %s: %w", p.name, method, path, err)
	}
	return nil
}

func (p *process) send(ctx context.Context, method, path string, in any) (r reply, err error) {
	doc, err := json.Marshal(in)
	if err != nil {
		return r, err
	}
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, bytes.NewReader(doc))
	if err != nil {
		return r, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return r, fmt.Errorf("shop %s: %w", p.name, err)
	}
	defer resp.Body.Close()
	r.status, r.cache = resp.StatusCode, resp.Header.Get("X-Cache")
	r.doc, err = io.ReadAll(resp.Body)
	return r, err
}

// lockedBuffer keeps what a shop writes to its standard error.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
