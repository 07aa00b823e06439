package main

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/wtcache/wtcache/parser"
)

// tightTimes is how often a tight measure is repeated in a round.
const tightTimes = 200_000

// runTight measures what takes nanoseconds, where the medians are those of rounds: of one
// execution there is no time.
func (m *measure) runTight(goroutines, rounds int, each func(result) error) error {
	m.tight(1, 1) // makes what it needs
	for round := range rounds {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		m.tight(goroutines, tightTimes)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		n := goroutines * tightTimes
		one := took / time.Duration(n)
		err := each(result{
			measure: m.name, way: m.ways[0], conns: goroutines, round: round, timing: timing{n, took, one, one, one},
			allocs: float64((after.Mallocs - before.Mallocs) / uint64(n)), bytes: float64((after.TotalAlloc - before.TotalAlloc) / uint64(n)),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const lookedUp = "SELECT o.id, o.number, o.created_at, o.total_cents, c.name, c.country FROM shop_orders o JOIN customers c " +
	"ON c.id = o.customer_id WHERE o.created_at > $1 AND o.state IN ($2, $3) ORDER BY 1 DESC LIMIT 10"

// manyPlans holds as many texts as the driver keeps.
var manyPlans = sync.OnceValue(func() *parser.Cache[*int] {
	const texts = 10_000
	cache := parser.NewCache[*int](texts, 32<<20)
	for i := range texts {
		cache.Put(fmt.Sprintf("%s OFFSET %d", lookedUp, i), new(int))
	}
	cache.Put(lookedUp, new(int))
	return cache
})

// planLookup looks up a text of 200 bytes.
func planLookup(goroutines, times int) {
	cache := manyPlans()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range times {
				if _, ok := cache.Get(lookedUp); !ok {
					panic("the plan is gone")
				}
			}
		})
	}
	wg.Wait()
}
