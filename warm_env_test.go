package wtcache_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
)

// shopFloor is a shelf with what warming has to cope with: a composite key, NULL in a key, a condition, two entries.
var shopFloor = shelfSetup{
	ddl: `CREATE TABLE lines (ord int, pos int, body text NOT NULL, code text UNIQUE, hidden bool NOT NULL, PRIMARY KEY (ord, pos));
		INSERT INTO lines SELECT o, p, o || '/' || p, CASE WHEN p > 1 THEN o || '-' || p END, p = 5 FROM generate_series(1, 20) o, generate_series(1, 5) p`,
	rules: map[string]string{"lines": `
table: {S}.lines
redis_down: refuse
entries:
  - {name: by_place, key: "{P}line:{pos}:{ord}"}
  - {name: by_code, key: "{P}code:{code}", when: "NOT hidden"}
`},
}

// warm ends the test unless all was gone through.
func warm(t *testing.T, h *shelf, opts wtcache.WarmOptions) wtcache.WarmReport {
	t.Helper()
	report, err := wtcache.Warm(t.Context(), h.db, opts)
	if err != nil || !report.Done {
		t.Fatalf("warm: %v; %+v", err, report)
	}
	return report
}

func (h *shelf) wantCounts(got, want wtcache.WarmCounts, what string) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("%s: counted %+v, want %+v", what, got, want)
	}
	if sum := got.Filled + got.Cached + got.Refused + got.Unstorable + got.Gone; sum != got.Rows {
		h.t.Errorf("%s: %d rows are counted as %d", what, got.Rows, sum)
	}
}

// cachedBody looks at Redis itself.
func cachedBody(t *testing.T, rdb redis.UniversalClient, key string) (body string, there bool) {
	t.Helper()
	text, err := rdb.Get(context.Background(), key).Result()
	if errors.Is(err, redis.Nil) {
		return "", false
	}
	var envelope struct{ Data struct{ Body string } }
	if err == nil {
		err = json.Unmarshal([]byte(text), &envelope)
	}
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return envelope.Data.Body, true
}
