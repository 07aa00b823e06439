package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"
)

// plan is how long is measured.
type plan struct {
	conns  []int
	rounds int
	slice  time.Duration // of one way in one round
	trials int           // rounds of the measures whose executions take long
	rows   int           // the most that a table has; 0 for what the measures want
	ways   []string      // none for all; the first of a measure is always taken
}

func (p plan) rowsOf(m *measure) int {
	if p.rows > 0 {
		return min(p.rows, m.rows)
	}
	return m.rows
}

// result is what one way did in one slice.
type result struct {
	measure, way string
	conns, round int
	timing
	allocs, bytes        float64 // of one execution, by all of the process
	commands, roundTrips float64 // of one execution, to Redis
	heap                 float64 // bytes that the slice held more than before it, at its most
	cpu                  cpu     // of one execution
	compared             bool    // whether there is
	cached, stale        int     // entries at the end of the last round: all, and those that are not as their rows
}

// timing is how long n executions took.
type timing struct {
	n             int
	took          time.Duration // all of them, side by side
	p50, p95, p99 time.Duration
}

func timingOf(times []time.Duration, took time.Duration) timing {
	slices.Sort(times)
	return timing{len(times), took, percentile(times, 50), percentile(times, 95), percentile(times, 99)}
}

// run measures, and gives each round's results as they come.
func run(ctx context.Context, s *servers, some []*measure, p plan, log io.Writer, each func(result) error) error {
	if err := s.table(ctx, "others", tableRows); err != nil {
		return err
	}
	for _, m := range some {
		conns := p.conns
		if m.trial {
			conns = []int{1} // side by side they would only wait for each other's rows
		}
		for _, n := range conns {
			if m.tight != nil {
				if err := m.runTight(n, p.rounds, each); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(log, "%s, connections: %d\n", m.name, n)
			if err := m.run(ctx, s, n, p, each); err != nil {
				return fmt.Errorf("%s, connections: %d: %w", m.name, n, err)
			}
		}
	}
	return nil
}

func (m *measure) run(ctx context.Context, s *servers, conns int, p plan, each func(result) error) (err error) {
	ways, done, err := m.open(ctx, s, conns, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	var seats []*seat
	if m.paired {
		var leave func() error
		if seats, leave, err = m.seats(ctx, ways, conns); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, leave()) }()
	}
	rounds := p.rounds
	if m.trial {
		rounds = p.trials
	}
	for round := -1; round < rounds; round++ { // the first opens connections and prepares statements
		var paired []timing
		if m.paired {
			if paired, err = together(ctx, seats, p.slice); err != nil {
				return err
			}
		}
		for _, i := range rand.Perm(len(ways)) { // none is always behind the same
			w := ways[i]
			r, err := m.slice(ctx, s, w, conns, p.slice)
			if err != nil {
				return err
			}
			r.round = round
			if m.paired {
				r.timing = paired[i]
			}
			if round == rounds-1 && w.name != wayPgx {
				r.compared = true
				if r.cached, r.stale, err = s.stale(ctx, w); err != nil {
					return fmt.Errorf("%s: %w", w.name, err)
				}
			}
			if m.trial { // from the first round on, or the others would walk over its entries
				if err := s.forget(ctx, w.table); err != nil {
					return err
				}
			}
			if round < 0 {
				continue
			}
			if err := each(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// open opens the ways that are planned, and gives what closes them and forgets their entries, which the next measure would
// walk over.
func (m *measure) open(ctx context.Context, s *servers, conns int, p plan) (ways []*way, done func() error, err error) {
	done = func() error {
		var errs []error
		for _, w := range ways {
			errs = append(errs, w.close(), s.forget(ctx, w.table))
		}
		return errors.Join(errs...)
	}
	for i, name := range m.ways {
		if i > 0 && len(p.ways) > 0 && !slices.Contains(p.ways, name) {
			continue
		}
		w, err := s.open(ctx, name, m.far, conns, p.rowsOf(m))
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%s: %w", name, err), done())
		}
		w.do = m.how[name](w)
		ways = append(ways, w)
	}
	return ways, done, nil
}

// slice lets one way work for a while.
func (m *measure) slice(ctx context.Context, s *servers, w *way, conns int, long time.Duration) (result, error) {
	if m.trial {
		if err := s.tidy(ctx, w, m.full); err != nil {
			return result{}, err
		}
	}
	runtime.GC()
	heap := func() float64 { return 0 }
	if m.trial {
		heap = watchHeap()
	}
	spent, err := s.cpu(ctx)
	if err != nil {
		return result{}, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before) // behind the questions above, which allocate
	commands, trips := w.trips.commands.Load(), w.trips.round.Load()
	began := time.Now()
	times, err := work(ctx, slices.Repeat([][]*way{{w}}, conns), func() bool { return m.trial || time.Since(began) >= long })
	if err == nil {
		err = w.settle(ctx) // what it left to be done is its work, too
	}
	took := time.Since(began)
	r := result{measure: m.name, way: w.name, conns: conns, heap: heap()}
	if err != nil {
		return r, err
	}
	runtime.ReadMemStats(&after)
	now, err := s.cpu(ctx)
	if err != nil {
		return r, err
	}
	r.timing = timingOf(times[0], took)
	n := float64(r.n)
	r.cpu = now.since(spent).of(r.n)
	// Whole numbers, as Go's own benchmarks give: what runs behind a slice has allocations, too.
	r.allocs, r.bytes = math.Round(float64(after.Mallocs-before.Mallocs)/n), math.Round(float64(after.TotalAlloc-before.TotalAlloc)/n)
	r.commands, r.roundTrips = float64(w.trips.commands.Load()-commands)/n, float64(w.trips.round.Load()-trips)/n
	return r, nil
}

// work has workers repeat their ways, each at least once, until the time is over: each time every way once, in an order
// drawn at random. It gives how long each execution of each way took.
func work(ctx context.Context, workers [][]*way, over func() bool) ([][]time.Duration, error) {
	times, errs := make([][][]time.Duration, len(workers)), make([]error, len(workers))
	var wg sync.WaitGroup
	for i, ways := range workers {
		wg.Go(func() { times[i], errs[i] = worker(ctx, ways, rand.New(rand.NewPCG(uint64(i), rand.Uint64())), over) })
	}
	wg.Wait()
	all := make([][]time.Duration, len(workers[0]))
	for i := range workers {
		if errs[i] != nil {
			return nil, errs[i]
		}
		for j := range all {
			all[j] = append(all[j], times[i][j]...)
		}
	}
	return all, nil
}

func worker(ctx context.Context, ways []*way, r *rand.Rand, over func() bool) ([][]time.Duration, error) {
	times, order := make([][]time.Duration, len(ways)), r.Perm(len(ways))
	for {
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			began := time.Now()
			if err := ways[i].do(ctx, r); err != nil {
				return nil, fmt.Errorf("%s: %w", ways[i].name, err)
			}
			times[i] = append(times[i], time.Since(began))
		}
		if over() {
			return times, nil
		}
	}
}

// percentile is of sorted times, by the nearest rank.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[max((len(sorted)*p+99)/100, 1)-1]
}

// watchHeap looks at the heap until it is asked, and then says how far it rose over where it began.
func watchHeap() func() float64 {
	inUse := func() float64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	began := inUse()
	most := began
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				most = max(most, inUse())
			}
		}
	}()
	return func() float64 {
		close(stop)
		<-done
		return max(most, inUse()) - began
	}
}
