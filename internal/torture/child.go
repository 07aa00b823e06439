package torture

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// childVariable makes this program a process of a World.
const childVariable = "WTCACHE_TORTURE_CHILD"

// role is what a process mostly does.
type role string

const (
	writer role = "writer"
	reader role = "reader"
)

// Mode is what keeps the cache true.
type Mode string

const (
	// Through is this library.
	Through Mode = "wtcache"
	// DualWrite is written by hand: UPDATE, and after COMMIT a SET; a reader does GET, else SELECT and SET.
	DualWrite Mode = "dualwrite"
	// CacheAside is written by hand: UPDATE, and after COMMIT a DEL; a reader as before.
	CacheAside Mode = "cacheaside"
)

// childConfig is what a process is told at its start.
type childConfig struct {
	Name    string
	Role    role
	Mode    Mode
	Serial  int // no two processes of a World have the same one
	Seed    uint64
	Clients int
	DSN     string // of the driver that Mode means
	Redis   string // for caches written by hand
	Journal string
	Pause   time.Duration // longest pause of a client between operations
	Limit   time.Duration // of one operation
}

// Main is to be called first by every program that makes a World. In a process of a World it does not return.
func Main() {
	text := os.Getenv(childVariable)
	if text == "" {
		return
	}
	var c childConfig
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = c.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// state is what a process says of itself when it is asked.
type state struct {
	Owed    int64  // keys that are to be made absent still
	InDoubt uint64 // COMMITs whose outcome is still asked for
	Error   string
}

// process is a process of a World, from the inside.
type process struct {
	childConfig
	journal *journal
	cache   cache
	ops     atomic.Int64
	values  atomic.Int64

	pace sync.RWMutex // read by each operation; the whole process pauses while it is held
}

func (c childConfig) run() error {
	j, err := openJournal(c.Journal)
	if err != nil {
		return err
	}
	p := &process{childConfig: c, journal: j}
	if p.cache, err = openCache(c); err != nil {
		return err
	}
	p.pace.Lock() // until the first "go"
	for client := range c.Clients {
		go p.live(client)
	}
	fmt.Println("ready")
	return p.obey()
}

// obey carries out the commands on the standard input, each answered by one line. The process ends with its input.
func (p *process) obey() error {
	paused := true
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		command, rest, _ := strings.Cut(in.Text(), " ")
		answer := any("done")
		switch command {
		case "pause":
			if !paused {
				p.pace.Lock()
			}
			paused = true
		case "go":
			if paused {
				p.pace.Unlock()
			}
			paused = false
		case "die":
			p.cache.dieAt(rest)
		case "state":
			answer = p.cache.state()
		default:
			return fmt.Errorf("torture: a process was told %q", command)
		}
		line, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return in.Err()
}

// live is the life of one client: it does one thing after the other.
func (p *process) live(client int) {
	a := &actor{process: p, client: p.Serial*100 + client, r: rand.New(rand.NewPCG(p.Seed, uint64(p.Serial*100+client)))}
	for {
		p.pace.RLock()
		ctx, cancel := context.WithTimeout(context.Background(), p.Limit)
		a.act(ctx)
		cancel()
		p.pace.RUnlock()
		time.Sleep(time.Duration(a.r.Int64N(int64(cmp.Or(p.Pause, time.Microsecond)))))
	}
}

// draw gives a value that nobody else writes, so that a reader can tell whose write it saw.
func (p *process) draw() int { return p.Serial*perProcess + int(p.values.Add(1)) }

func (p *process) nextOp() int64 { return int64(p.Serial)*perProcess + p.ops.Add(1) }

// perProcess is more than a process ever draws.
const perProcess = 1_000_000_000
