package wtcache

import "testing"

// A plan that is read wrongly makes every entry absent for a write of one row, or has a million rows spelled out.
func TestExpectedRows(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]float64{
		`[{"Plan": {"Node Type": "ModifyTable", "Plan Rows": 0, "Plans": [{"Node Type": "Seq Scan", "Parent Relationship": "Outer", "Plan Rows": 100000,
			"Plans": [{"Parent Relationship": "Outer", "Plan Rows": 7}]}]}}]`: 100000,
		// A sub-select that runs beside it, and a CTE, write nothing.
		`[{"Plan": {"Plan Rows": 0, "Plans": [{"Parent Relationship": "InitPlan", "Plan Rows": 5000000}, {"Parent Relationship": "Outer", "Plan Rows": 2},
			{"Parent Relationship": "SubPlan", "Plan Rows": 9}]}}]`: 2,
		// Of a partitioned table, by a server before 14.
		`[{"Plan": {"Plan Rows": 30, "Plans": [{"Parent Relationship": "Member", "Plan Rows": 10}, {"Parent Relationship": "Member", "Plan Rows": 20}]}}]`: 30,
		`[{"Plan": {"Plan Rows": 1e6}}]`: 0,
		`[]`:                             0, ``: 0, `QUERY PLAN`: 0,
	} {
		if got := expectedRows([]byte(answer)); got != want {
			t.Errorf("%s: %v rows, want %v", answer, got, want)
		}
	}
}

// A statement that is not asked about must not pay for it, whatever is known of its table.
func TestKnownSizeCostsNothing(t *testing.T) {
	c := idleWrapped(t)
	large := func(text string) *step {
		p, err := c.plan(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		st := p.bind(c).steps[0]
		table := *st.table
		table.Rows = 1 << 40
		st.table = &table
		return &st
	}
	pinned, small := large("UPDATE users SET name = $1 WHERE id = $2"), large("UPDATE users SET name = $1 WHERE name = $2")
	if c.engine.mayBeLarge(pinned) || !c.engine.mayBeLarge(small) {
		t.Fatalf("large: %t, %t, want false, true", c.engine.mayBeLarge(pinned), c.engine.mayBeLarge(small))
	}
	small.size.note(sizeSmall)
	for _, st := range []*step{pinned, small} {
		if n := testing.AllocsPerRun(100, func() {
			if got, err := c.sized(t.Context(), st, request{sql: st.text}); got != st || err != nil {
				t.Fatal(got, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", st.text, n)
		}
	}
}
