package cachesync

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The explorer remembers what a script did in a state and does not run it there again. That must be what happens when the
// scripts run one after the other on a Redis that nobody has touched in between: random ways through the programs are
// played so, and answers and states compared step by step.
func TestExploreReplay(t *testing.T) {
	server := exploreServer(t)
	for n, format := range allFormats {
		walks := uint64(12)
		if n > 0 && !*exploreLong {
			walks = 4
		}
		for _, p := range basePrograms() {
			if p.faults.evict || p.faults.vanish || p.faults.restart > 0 {
				continue // what the test itself does to Redis there is not a script's doing
			}
			t.Run(format.String()+"/"+p.name, func(t *testing.T) {
				remembered := newMachine(t, server, format, nil)
				defer remembered.close()
				played := newMachine(t, server, format, nil)
				defer played.close()
				e := newExplorer(remembered, p)
				steps := 0
				for seed := range walks {
					r := &replay{explorer: e, on: played}
					r.walk(rand.New(rand.NewPCG(seed, 7)))
					steps += r.steps
				}
				if steps == 0 {
					t.Error("nothing was played")
				}
			})
		}
	}
}

// replay plays one way through a program on a Redis of its own.
type replay struct {
	*explorer
	on    *machine
	steps int
}

// choice is a step that can be taken.
type choice struct {
	label string
	next  state
	did   []played
}

func (r *replay) walk(rng *rand.Rand) {
	r.on.rdb.FlushDB(context.Background())
	at := r.Start()
	for range 80 {
		var choices []choice
		r.Steps(&at, true, func(next *state, label string) {
			choices = append(choices, choice{label, *next, append([]played(nil), r.journal...)})
		})
		if len(choices) == 0 {
			return
		}
		c := choices[rng.IntN(len(choices))]
		r.play(c)
		at = c.next
		r.steps++
	}
}

func (r *replay) play(c choice) {
	r.t.Helper()
	ctx := context.Background()
	for _, p := range c.did {
		v, err := r.on.rdb.Do(ctx, r.on.command(p.request, playedOn(p.unit))...).Result()
		if err != nil {
			r.t.Fatal(err)
		}
		if got := text(v); got != p.answer {
			r.t.Fatalf("%s: Redis answers %s", c.label, got)
		}
	}
	if c.label == timePasses {
		r.age()
	}
	for u := range r.barrier + 1 {
		if got, want := r.spelled(u), r.machine.units[c.next.unit[u]].spelling; got != want {
			r.t.Fatalf("%s: unit %d is\n%sinstead of\n%s", c.label, u, got, want)
		}
	}
}

// playedOn are the names of a unit, on a Redis that holds all of them.
func playedOn(u uint8) siblings {
	names, _ := siblingsOf(fmt.Sprintf("row:%d", u+1))
	return names
}

// spelled is what Redis holds for a unit, under the names by which the explorer knows every unit.
func (r *replay) spelled(u uint8) string {
	dump, err := r.on.rdb.EvalSha(context.Background(), dumpDigest, nil).Result()
	if err != nil {
		r.t.Fatal(err)
	}
	var names []physical
	for _, p := range r.on.parse(dump) {
		if !strings.Contains(p.name, playedOn(u).key) {
			continue
		}
		p.name = strings.ReplaceAll(p.name, playedOn(u).key, playedOn(0).key)
		for i := range p.parts { // a pointer holds a name
			p.parts[i] = strings.ReplaceAll(p.parts[i], playedOn(u).key, playedOn(0).key)
		}
		names = append(names, p)
	}
	return r.on.units[r.on.intern(names)].spelling
}

// age takes a tick from every life in Redis, and from the instants in what it holds.
func (r *replay) age() {
	ctx := context.Background()
	for _, name := range r.on.rdb.Keys(ctx, "*").Val() {
		left := r.on.rdb.PTTL(ctx, name).Val()
		switch {
		case left > longTicks*tickLength:
			continue
		case left < tickLength*3/2:
			r.on.rdb.Del(ctx, name)
			continue
		}
		r.on.rdb.PExpire(ctx, name, left-tickLength)
		if r.on.rdb.Type(ctx, name).Val() != "hash" {
			continue
		}
		for field, v := range r.on.rdb.HGetAll(ctx, name).Val() {
			if ms, err := strconv.ParseInt(v, 10, 64); err == nil && len(v) == 13 {
				aged := time.UnixMilli(ms).Add(-tickLength)
				r.on.rdb.HSet(ctx, name, field, strconv.FormatInt(aged.UnixMilli(), 10))
			}
		}
	}
}
