package main

import (
	"fmt"
	"io"
	"runtime"

	"golang.org/x/perf/benchfmt"
)

// Units of the results beside Go's own.
const (
	unitP50, unitP95, unitP99 = "p50-ns", "p95-ns", "p99-ns"
	unitThroughput            = "ops/s"
	unitCommands, unitTrips   = "redis-commands/op", "redis-trips/op"
	unitHeap                  = "heap-rise-B"
	unitHere                  = "cpu-here-ns/op"
	unitPostgres, unitRedis   = "cpu-postgres-ns/op", "cpu-redis-ns/op"
	unitCached, unitStale     = "entries", "stale-entries"
)

// output writes results in Go's benchmark format.
type output struct{ w *benchfmt.Writer }

// newOutput begins with what there is to know about the machine.
func newOutput(w io.Writer, s *servers) *output {
	o := &output{benchfmt.NewWriter(w)}
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\ncpu: %s\ncpus: %d\ngo: %s\npostgres: %s, fsync on\nredis: %s\n",
		runtime.GOOS, runtime.GOARCH, processor(), runtime.NumCPU(), runtime.Version(), s.postgres, s.version)
	return o
}

func (o *output) write(r result) error {
	line := &benchfmt.Result{
		Name:  benchfmt.Name(fmt.Sprintf("%s/way=%s/conns=%d-%d", r.measure, r.way, r.conns, runtime.GOMAXPROCS(0))),
		Iters: r.n,
	}
	add := func(value float64, unit string) {
		line.Values = append(line.Values, benchfmt.Value{Value: value, Unit: unit})
	}
	add(float64(r.took.Nanoseconds())/float64(r.n), "ns/op")
	add(float64(r.p50.Nanoseconds()), unitP50)
	add(float64(r.p95.Nanoseconds()), unitP95)
	add(float64(r.p99.Nanoseconds()), unitP99)
	add(float64(r.n)/r.took.Seconds(), unitThroughput)
	add(r.bytes, "B/op")
	add(r.allocs, "allocs/op")
	add(r.commands, unitCommands)
	add(r.roundTrips, unitTrips)
	if r.cpu != (cpu{}) {
		add(float64(r.cpu.here), unitHere)
		add(float64(r.cpu.postgres), unitPostgres)
		add(float64(r.cpu.redis), unitRedis)
	}
	if r.heap > 0 {
		add(r.heap, unitHeap)
	}
	if r.compared {
		add(float64(r.cached), unitCached)
		add(float64(r.stale), unitStale)
	}
	return o.w.Write(line)
}
