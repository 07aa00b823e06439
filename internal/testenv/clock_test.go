package testenv

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Redis that does not follow its clock would have torture say that clock jumps do no harm when none has happened.
func TestMoveClock(t *testing.T) {
	t.Parallel()
	env, err := Start(t.Context(), Options{NoPostgres: true, NoRedis: true})
	require(t, err)
	t.Cleanup(func() {
		if err := env.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := env.NewRedisWithClock(t.Context())
	if errors.Is(err, ErrNoClock) && !required() {
		t.Skip(err)
	}
	require(t, err)
	// ahead says by how many hours, rounded, a script's clock is ahead, which decides on fences.
	ahead := func() float64 {
		t.Helper()
		text, err := r.Ask(t.Context(), "eval", "return redis.call('TIME')[1]", 0)
		require(t, err)
		seconds, err := strconv.ParseInt(text, 10, 64)
		require(t, err)
		return time.Until(time.Unix(seconds, 0)).Round(time.Hour).Hours()
	}
	move := func(by time.Duration) {
		t.Helper()
		require(t, r.MoveClock(by))
		if got := ahead(); got != by.Hours() {
			t.Fatalf("Redis is %v h ahead after its clock was moved by %v", got, by)
		}
	}
	ask := func(words ...any) string {
		t.Helper()
		text, err := r.Ask(t.Context(), words...)
		if err != nil && !strings.Contains(err.Error(), "nil") {
			t.Fatal(err)
		}
		return text
	}
	move(0)
	ask("set", "fence", "x", "px", 60_000)
	move(-3 * time.Hour)
	if left, err := r.Count(t.Context(), "pttl", "fence"); err != nil || left < 3_600_000 {
		t.Errorf("what had a minute to live has %d ms after a jump back by hours (%v): expiry does not follow the clock", left, err)
	}
	move(5 * time.Hour)
	if got := ask("get", "fence"); got != "" {
		t.Errorf("what had a minute to live is there after a jump by hours: expiry does not follow the clock")
	}
	require(t, errors.Join(r.Kill(t.Context()), r.Start(t.Context())))
	if got := ahead(); got != 5 {
		t.Errorf("Redis is %v h ahead after a restart, 5 h before", got)
	}
	move(0)
}
