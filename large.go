package wtcache

import (
	"database/sql/driver"
	"slices"
	"sync/atomic"

	"github.com/wtcache/wtcache/rules"
)

// size remembers of a text whether it wrote more rows than a transaction keeps when it was
// carried out last. All plans that are made of one step share it.
type size struct{ large atomic.Bool }

// sized gives a step as it is to be carried out. To have the server spell every row out, only
// for the rows to be dropped, costs several times what the write itself costs: a text that wrote
// too many rows the last time is sent as the caller wrote it, and every entry of its rule becomes
// absent, as it would have anyhow. How many rows it writes is seen all the same; once they are
// few enough again it is captured again.
//
// Where the caller wants rows they cross the wire anyhow, and their number shows only later.
func (c *conn) sized(st *step, r request) *step {
	if st.size == nil || r.rows || st.action != actPrecise || c.base.standIn != nil || !st.size.large.Load() {
		return st
	}
	whole := *st
	whole.action, whole.reason, whole.table = actCoarse, coarseLarge, nil
	whole.coarse = appendTables(slices.Clone(st.coarse), st.table)
	// No captured tableoid will tell if the name means another table than it did.
	whole.coarse = appendTables(whole.coarse, c.gen.set.TablesByName(st.stmt.Target.Name)...)
	return &whole
}

// wrote takes note of how many rows a step wrote.
func (c *conn) wrote(st *step, result driver.Result) {
	if st.size == nil || result == nil {
		return
	}
	if n, err := result.RowsAffected(); err == nil {
		st.size.note(n > int64(c.engine.cfg.MaxCapturedRows))
	}
}

// keepLarge keeps the plan of a text that has turned out to be large. One with constants in it is
// otherwise kept only when it comes again, and would be forgotten together with what it did.
func (c *conn) keepLarge(p *textPlan, st *step) {
	if st.size == nil || !st.size.large.Load() {
		return
	}
	if _, kept := c.gen.plans.Get(p.sql); !kept {
		c.gen.plans.Put(p.sql, p)
	}
}

// note stores only what is new: the size is shared by all connections.
func (s *size) note(large bool) {
	if s.large.Load() != large {
		s.large.Store(large)
	}
}

// wholly says whether every entry of a table's rule becomes absent anyhow, so that nothing
// needs to be known of its rows.
func (o *owed) wholly(table *rules.Table) bool {
	return slices.ContainsFunc(o.coarse, func(t *rules.Table) bool { return t.Barrier == table.Barrier })
}
