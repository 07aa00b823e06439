package linear

import (
	"cmp"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// Run has so many clients call do, each again and again, until there were ops calls in all or one gave an error. It returns
// the first client's error when all have ended. Each client has random numbers of its own, drawn from the seed.
func Run(clients, ops int, seed uint64, do func(client int, r *rand.Rand) error) error {
	var called atomic.Int64
	var failed atomic.Bool
	errs := make([]error, clients)
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(client)))
			for !failed.Load() && called.Add(1) <= int64(ops) {
				if errs[client] = do(client, r); errs[client] != nil {
					failed.Store(true)
				}
			}
		})
	}
	all.Wait()
	return cmp.Or(errs...)
}
