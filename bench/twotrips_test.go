package main

import (
	"math/rand/v2"
	"testing"
)

// What two-trips is the floor of is a fence that Redis has before the statement is sent. A failure means that the floor
// beside the goals is that of fewer trips, or of commands that fence or store nothing.
func TestTwoTripsFencesFirst(t *testing.T) {
	s := testServers(t)
	for _, tt := range []struct {
		measure  string
		rows     int
		commands int64
	}{{"Update", 1, 2}, {"FarUpdate", 1, 2}, {"Literals", 1, 2}, {"Transaction", 5, 10}} {
		t.Run(tt.measure, func(t *testing.T) {
			m := measureOf(t, tt.measure)
			w, err := s.open(t.Context(), wayTwoTrips, m.far, 1, tt.rows)
			if err != nil {
				t.Fatal(err)
			}
			do := m.how[wayTwoTrips](w)
			state := func() (text string) {
				t.Helper()
				if err := s.admin.QueryRowContext(t.Context(), "SELECT array_agg(m ORDER BY id)::text FROM "+w.table+" m").Scan(&text); err != nil {
					t.Fatal(err)
				}
				return text
			}
			if err := do(t.Context(), rand.New(rand.NewPCG(1, 2))); err != nil { // connects, too
				t.Fatal(err)
			}
			commands, trips := w.trips.commands.Load(), w.trips.round.Load()
			if err := do(t.Context(), rand.New(rand.NewPCG(3, 4))); err != nil {
				t.Fatal(err)
			}
			if commands, trips := w.trips.commands.Load()-commands, w.trips.round.Load()-trips; commands != tt.commands || trips != 2 {
				t.Errorf("%d commands in %d trips, want %d in 2", commands, trips, tt.commands)
			}
			if cached, stale, err := s.stale(t.Context(), w); err != nil || cached == 0 || stale > 0 {
				t.Errorf("%d entries, %d of them stale (%v), want some and none", cached, stale, err)
			}

			admin := func(text string) {
				t.Helper()
				if _, err := s.admin.ExecContext(t.Context(), text); err != nil {
					t.Fatal(err)
				}
			}
			admin("ALTER TABLE " + w.table + " ADD CONSTRAINT refused CHECK (false) NOT VALID")
			if err := do(t.Context(), rand.New(rand.NewPCG(7, 8))); err == nil {
				t.Error("no error where Postgres refuses the rows")
			}
			admin("ALTER TABLE " + w.table + " DROP CONSTRAINT refused")
			fences := 0
			for id := range int64(tt.rows) {
				key := w.entry(id + 1)
				if s.watch.Get(t.Context(), key).Val() != fenced {
					continue
				}
				fences++
				if life := s.watch.PTTL(t.Context(), key).Val(); life <= 0 || life > fenceTTL {
					t.Errorf("the fence of %s lives for %v, want at most %v", key, life, fenceTTL)
				}
			}
			if fences == 0 {
				t.Error("no fence stood in an entry's place when the statement was refused")
			}

			before := state()
			if err := w.redis.Close(); err != nil {
				t.Fatal(err)
			}
			if err := do(t.Context(), rand.New(rand.NewPCG(5, 6))); err == nil {
				t.Error("no error without Redis")
			}
			if after := state(); after != before {
				t.Errorf("a row was written without a fence: %s, was %s", after, before)
			}
			w.pool.Close()
			if err := s.forget(t.Context(), w.table); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func measureOf(t *testing.T, name string) *measure {
	t.Helper()
	some, err := of(name)
	if err != nil {
		t.Fatal(err)
	}
	return some[0]
}
