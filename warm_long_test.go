package wtcache_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// TestWarmIsFlat warms a long table and tells the memory that the process has at 10 %, 50 % and 100 %. It runs where
// WTCACHE_TEST_WARM_ROWS says how many rows it has, and fails where the memory grows: 10 million rows must warm on the
// machine that 100,000 do.
func TestWarmIsFlat(t *testing.T) {
	rows, _ := strconv.ParseInt(os.Getenv("WTCACHE_TEST_WARM_ROWS"), 10, 64)
	if rows == 0 {
		t.Skip("WTCACHE_TEST_WARM_ROWS is not set")
	}
	h := newShelf(t, shelfSetup{
		ddl: "CREATE UNLOGGED TABLE many (id bigint PRIMARY KEY, name text, body text)",
		// A short life: it is not Redis' memory that is measured.
		rules: map[string]string{"many": "table: {S}.many\nkey: \"{P}many:{id}\"\nredis_down: refuse\nttl: 10s\n"},
	})
	h.must("INSERT INTO many SELECT i, 'name ' || i, md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text) FROM generate_series(1, $1::bigint) i", rows)
	h.must("ANALYZE many")
	// A program of its own: the shelf's keeps a list of all that it sends.
	db, err := wtcache.OpenDB(pgxConnector(t, h.dsn), wtcache.Config{
		Redis: redisClient(t, testenv.RealRedis(t)), Rules: h.rules, RedisTimeout: 5 * time.Second, Outbox: wtcache.OutboxOff,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	var marks []memory
	at := []int64{rows / 10, rows / 2, rows}
	report, err := wtcache.Warm(t.Context(), db, wtcache.WarmOptions{Parallel: 2, Progress: func(p wtcache.WarmProgress) {
		for len(marks) < len(at) && p.Done.Rows >= at[len(marks)] {
			marks = append(marks, memoryNow())
			m := marks[len(marks)-1]
			t.Logf("%d rows of %d (estimated): heap in use %.1f MiB, resident %.1f MiB", p.Done.Rows, p.Total, m.heap, m.resident)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows in %.0f s: %.0f rows/s; %+v", report.Rows, report.Seconds, float64(report.Rows)/report.Seconds, report.WarmCounts)
	if first, last := marks[0], marks[2]; last.heap > first.heap+16 || last.resident > first.resident+32 {
		t.Errorf("the memory grows with the table: %+v", marks)
	}
}

// memory is in MiB.
type memory struct{ heap, resident float64 }

func memoryNow() (m memory) {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m.heap = float64(s.HeapInuse) / (1 << 20)
	status, _ := os.ReadFile("/proc/self/status") // none outside Linux
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(text)[0], 64)
			m.resident = kib / (1 << 10)
		}
	}
	return m
}
