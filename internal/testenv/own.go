package testenv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// OwnRedis is a further Redis of a program that is no test: what RedisServer is to a test, with errors returned. Not for
// concurrent use, but for Ask.
type OwnRedis struct {
	// URL stays the same over restarts, and so does Addr, "" for a server that listens on its socket alone.
	URL, Addr string
	// Socket is the path of its unix socket, Folder where it keeps its files: dump.rdb is what Ask(ctx, "save") writes
	// and what Start reads.
	Socket, Folder string

	r *redisServer
}

// ownRedis takes over a server that was started just now: what it holds at first nobody has reason to doubt. What it holds
// when it comes back is for its clients to find out.
func ownRedis(r *redisServer) *OwnRedis {
	r.unknown = true
	o := &OwnRedis{URL: r.url(), Socket: r.socket(), Folder: r.dir, r: r}
	if r.port != 0 {
		o.Addr = r.addr()
	}
	return o
}

// NewRedis starts a further Redis, which is never miniredis and lives until Close. Further arguments are redis-server's.
func (e *Env) NewRedis(ctx context.Context, args ...string) (*OwnRedis, error) {
	r, err := e.site.redis(ctx, args...)
	if err != nil {
		return nil, err
	}
	return ownRedis(r), nil
}

// Pause stops the process: connections stay open and are answered by nobody.
func (o *OwnRedis) Pause() error { return o.r.proc.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on; it then answers what was sent meanwhile.
func (o *OwnRedis) Resume() error { return o.r.proc.signal(syscall.SIGCONT) }

// Kill ends the process at once, paused or not. It does nothing where the server is down.
func (o *OwnRedis) Kill(ctx context.Context) error { return o.r.kill(ctx) }

// Start starts a server that was killed, with what is in its folder.
func (o *OwnRedis) Start(ctx context.Context) error { return o.r.start(ctx) }

// Ask sends one command by a connection of its own and gives the answer as text, "" where there is none. It waits for a
// second at most.
func (o *OwnRedis) Ask(ctx context.Context, words ...any) (string, error) {
	return o.r.ask(ctx, words...)
}

// Vouch notes that what the server holds now nobody has reason to doubt, as is the case when it is started first.
func (o *OwnRedis) Vouch(ctx context.Context) error {
	o.r.unknown = false
	defer func() { o.r.unknown = true }()
	return o.r.vouch(ctx, Registry)
}

// Count is Ask for a command that answers with a number.
func (o *OwnRedis) Count(ctx context.Context, words ...any) (int, error) {
	admin := o.r.admin()
	defer admin.Close()
	n, err := admin.Do(ctx, words...).Int()
	if err != nil {
		return 0, fmt.Errorf("%v on %s: %w", words, o.URL, err)
	}
	return n, nil
}

// Info is the value of one line of an INFO section.
func (o *OwnRedis) Info(ctx context.Context, section, name string) (string, error) {
	text, err := o.Ask(ctx, "info", section)
	return field(text, name), err
}

// OwnPostgres is a further Postgres of a program that is no test. Not for concurrent use.
type OwnPostgres struct {
	// URL stays the same over restarts, and so does Socket, the path of its unix socket.
	URL, Socket string

	p *postgres
}

// NewPostgres starts a further Postgres, which lives until Close.
func (e *Env) NewPostgres(ctx context.Context, opts PostgresOptions) (*OwnPostgres, error) {
	p, err := e.site.postgres(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &OwnPostgres{URL: p.url(), Socket: p.socket(), p: p}, nil
}

// Stop shuts the server down in order: sessions end with SQLSTATE 57P01, everything is written. It does nothing where
// the server is down.
func (o *OwnPostgres) Stop(ctx context.Context) error { return o.p.stop(ctx) }

// Kill ends every process of the server at once, as a crash does: the next Start recovers from the WAL.
func (o *OwnPostgres) Kill(ctx context.Context) error { return o.p.kill(ctx) }

// Start starts a server that is down.
func (o *OwnPostgres) Start(ctx context.Context) error { return o.p.start(ctx) }

// OwnFleet is several Redis servers of a program that is no test, which stand in for one another. Not for concurrent use.
type OwnFleet struct {
	// URL names all of them, or the Sentinels, as redis.ParseClusterURL and ParseFailoverURL read it.
	URL   string
	Nodes []*OwnRedis

	master   func(ctx context.Context, key string, not *redisServer) (*redisServer, error)
	complete func(ctx context.Context) error
}

// NewSentinel starts a master, two replicas and three Sentinels. A master that is dead for about two seconds is replaced.
func (e *Env) NewSentinel(ctx context.Context) (*OwnFleet, error) {
	set, err := e.site.sentinel(ctx, alertTimeout)
	if err != nil {
		return nil, err
	}
	s := &RedisSentinel{set: set}
	f := &OwnFleet{URL: set.url(), complete: set.awaitComplete}
	for _, r := range set.nodes {
		s.Nodes = append(s.Nodes, &RedisServer{URL: r.url(), r: r})
	}
	for _, r := range set.guards {
		s.Sentinels = append(s.Sentinels, &RedisServer{URL: r.url(), r: r})
	}
	f.master = func(_ context.Context, _ string, not *redisServer) (*redisServer, error) {
		m, err := s.master(serverOf(s.Nodes, not))
		if err != nil {
			return nil, err
		}
		return m.r, nil
	}
	f.own(set.nodes)
	return f, nil
}

// NewCluster starts three masters and a replica of each. A master that is dead for about two seconds is replaced.
func (e *Env) NewCluster(ctx context.Context) (*OwnFleet, error) {
	c, err := e.site.cluster(ctx, alertTimeout)
	if err != nil {
		return nil, err
	}
	s := &RedisCluster{c: c}
	f := &OwnFleet{URL: c.url(), complete: c.awaitComplete}
	for _, r := range c.nodes {
		s.Nodes = append(s.Nodes, &RedisServer{URL: r.url(), r: r})
	}
	f.master = func(_ context.Context, key string, not *redisServer) (*redisServer, error) {
		slot, err := s.Slot(key)
		if err != nil {
			return nil, err
		}
		m, err := s.masterOf(slot, serverOf(s.Nodes, not))
		if err != nil {
			return nil, err
		}
		return m.r, nil
	}
	f.own(c.nodes)
	return f, nil
}

func serverOf(servers []*RedisServer, r *redisServer) *RedisServer {
	for _, s := range servers {
		if s.r == r {
			return s
		}
	}
	return nil
}

func (f *OwnFleet) own(servers []*redisServer) {
	for _, r := range servers {
		f.Nodes = append(f.Nodes, ownRedis(r))
	}
}

func (f *OwnFleet) node(r *redisServer) *OwnRedis {
	for _, n := range f.Nodes {
		if n.r == r {
			return n
		}
	}
	return nil
}

// Master is the node that serves a key, by the word of all who are asked.
func (f *OwnFleet) Master(ctx context.Context, key string) (*OwnRedis, error) {
	r, err := f.master(ctx, key, nil)
	if err != nil {
		return nil, err
	}
	return f.node(r), nil
}

// AwaitPromotion waits until another node than the dead one serves the key.
func (f *OwnFleet) AwaitPromotion(ctx context.Context, dead *OwnRedis, key string) (promoted *OwnRedis, err error) {
	err = awaitTrue(ctx, "a replica to be promoted", func() error {
		r, err := f.master(ctx, key, dead.r)
		if err != nil {
			return err
		}
		if r == nil {
			return errors.New("no master is named")
		}
		promoted = f.node(r)
		return nil
	})
	return promoted, err
}

// AwaitComplete waits until all nodes run and are in sync.
func (f *OwnFleet) AwaitComplete(ctx context.Context) error { return f.complete(ctx) }

// Replicas are the nodes that follow a master, by its own word.
func (f *OwnFleet) Replicas(ctx context.Context, master *OwnRedis) ([]*OwnRedis, error) {
	info, err := master.Ask(ctx, "info", "replication")
	if err != nil {
		return nil, err
	}
	var found []*OwnRedis
	for line := range strings.Lines(info) {
		for _, n := range f.Nodes {
			if strings.HasPrefix(line, "slave") && strings.Contains(line, fmt.Sprintf("port=%d,", n.r.port)) {
				found = append(found, n)
			}
		}
	}
	return found, nil
}
