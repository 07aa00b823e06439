package wtcache

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
)

// change is one captured row, or a coarse write of a table.
type change struct {
	table     *rules.Table
	statement int // ordinal in the transaction
	coarse    bool
	blurs     bool // rows of the table captured so far may have changed again

	keys     []string // of each entry as the row is now; "" where the row has none
	shared   []string // of each shared key as the row is now
	old      []string // keys that the row had before, entries and shared
	payloads [][]byte // parallel to keys, or nil where none was captured; a nil one makes the key absent
	version  string
	xid      uint64 // of the transaction that wrote it; 0 where that is not known
}

// txState is what a connection remembers of the transaction that is open on it.
// The log is in the order of the writes; a savepoint marks its length.
type txState struct {
	open       bool
	log        []change
	marks      []mark
	statements int
	started    bool               // rows of the latest ruled write have come back, so it was carried out
	ddl        bool               // the catalogue was changed in this transaction
	session    bool               // the session was changed in this transaction, so its end changes it again
	xact       xact               // as captured with its rows
	mixed      bool               // rows of two transactions were captured: neither is xact
	isolation  sql.IsolationLevel // that it was begun with through database/sql
	floors     []*floor           // of the contexts that ruled statements came with
	unseen     bool               // something may have been written past us
	noFence    error              // why its keys could not be fenced, where that was tried before it began
	alone      bool               // it is one statement's, which is timed as a whole
	inDoubt    bool               // nobody knows whether it was committed
}

type mark struct {
	name string
	len  int
}

func (t *txState) begin() { *t = txState{open: true} }

func (t *txState) savepoint(name string) { t.marks = append(t.marks, mark{name, len(t.log)}) }

// rollbackTo cuts the log back to a savepoint, which stays. One that was set unseen,
// by a text that failed after it, say, may lie anywhere: every key becomes absent.
func (t *txState) rollbackTo(name string) {
	if i := t.find(name); i >= 0 {
		t.log = t.log[:t.marks[i].len]
		t.marks = t.marks[:i+1]
		return
	}
	t.blind()
}

// blind is for what may have happened unseen: rows that were captured may have been undone
// or written again, and savepoints may have moved. Every key so far becomes absent.
func (t *txState) blind() {
	t.marks, t.unseen = nil, true
	for i := range t.log {
		clear(t.log[i].payloads)
	}
}

// release forgets a savepoint and those after it; what was captured stays.
func (t *txState) release(name string) {
	if i := t.find(name); i >= 0 {
		t.marks = t.marks[:i]
	}
}

// find gives the latest savepoint of a name: Postgres lets a later one hide an earlier.
func (t *txState) find(name string) int {
	for i := len(t.marks) - 1; i >= 0; i-- {
		if t.marks[i].name == name {
			return i
		}
	}
	return -1
}

// coarse records that any row of the tables may have been written.
func (t *txState) coarse(tables []*rules.Table) {
	for _, table := range tables {
		if !t.said(func(ch *change) bool { return ch.coarse && ch.table == table }) {
			t.log = append(t.log, change{table: table, statement: t.statements, coarse: true})
		}
	}
}

// blur records that rows of the tables which were captured so far, or will be, may be
// changed by a trigger.
func (t *txState) blur(tables []*rules.Table) {
	for _, table := range tables {
		if !t.said(func(ch *change) bool { return ch.blurs && ch.table == table }) {
			t.log = append(t.log, change{table: table, blurs: true})
		}
	}
}

// said looks for a mark that is in the log, so that a long transaction does not repeat it
// without end. Whatever ROLLBACK TO cuts it off would cut off a new one, too.
func (t *txState) said(is func(*change) bool) bool {
	for i := range t.log {
		if is(&t.log[i]) {
			return true
		}
	}
	return false
}

// absent records keys that are to hold nothing.
func (t *txState) absent(table *rules.Table, keys []string) {
	t.log = append(t.log, change{table: table, statement: t.statements, old: keys})
}

// record reads one row's captured columns, which stand in the layout that
// rules.Table.Capture describes, followed by the old keys.
func (c *conn) record(st *step, hidden []driver.Value) {
	if c.recordsWholly(st) {
		return
	}
	cells, err := st.textsOf(hidden)
	c.recordRow(st, cells, err)
}

// recordRaw is record for texts as they came over the wire, nil for NULL. They are the
// caller's again afterwards.
func (c *conn) recordRaw(st *step, cells [][]byte) {
	if !c.recordsWholly(st) {
		c.recordRow(st, cells, nil)
	}
}

// recordsWholly counts a row, and says that no more of them are kept.
func (c *conn) recordsWholly(st *step) bool {
	c.engine.stats.capturedRows.Add(1)
	if len(c.tx.log) < c.engine.cfg.MaxCapturedRows {
		return false
	}
	c.recordOverflow(st.table)
	return true
}

// recordRow keeps a row. What cannot be read may be any row: it makes the table's entries
// absent, and never fails the user's write.
func (c *conn) recordRow(st *step, cells [][]byte, err error) {
	if err == nil && !st.view && !c.belongs(st, cells[1]) {
		return
	}
	var ch change
	if err == nil {
		ch, err = st.decode(cells)
	}
	if err != nil {
		c.engine.report("a captured row cannot be read; every entry of its rule becomes absent", err)
		c.engine.stats.coarseReasons.add(coarseUnreadable)
		c.tx.coarse([]*rules.Table{st.table})
		return
	}
	ch.statement = c.tx.statements
	c.tx.log = append(c.tx.log, ch)
	c.seeXact(ch.xid, ch.version)
	c.captured(ch.version)
}

// textsOf reads text columns, which a base may give as string or as []byte.
func (st *step) textsOf(hidden []driver.Value) ([][]byte, error) {
	cells := make([][]byte, len(hidden))
	for i, v := range hidden {
		switch v := v.(type) {
		case nil:
		case string:
			cells[i] = []byte(v)
		case []byte:
			cells[i] = v
		default:
			return nil, fmt.Errorf("captured column %d of %s: got %T where a text was expected", i+1, st.table.Name, v)
		}
	}
	return cells, nil
}

// recordOverflow gives up on single rows: more than MaxCapturedRows make the
// table's entries absent as a whole. The rows before stay in the log, since a
// ROLLBACK TO may cut the mark off again.
func (c *conn) recordOverflow(table *rules.Table) {
	last := c.tx.log[len(c.tx.log)-1]
	if last.coarse && last.table == table {
		return
	}
	if slices.ContainsFunc(c.tx.log[c.engine.cfg.MaxCapturedRows:], func(ch change) bool { return ch.coarse && ch.table == table }) {
		return
	}
	c.engine.once("overflow "+table.Name.String(), "a transaction wrote more rows than are kept in memory; every entry of the rule becomes absent instead",
		"table", table.Name.String(), "max_captured_rows", c.engine.cfg.MaxCapturedRows)
	c.engine.stats.coarseReasons.add(coarseOverflow)
	c.tx.coarse([]*rules.Table{table})
}

// belongs says whether a captured row is of the step's table. It is not where the
// name resolved to another table than the session's probe said, because something
// that no text shows (a function, say) changed the search_path.
func (c *conn) belongs(st *step, tableoid []byte) bool {
	if tableoid == nil {
		return true
	}
	oid, err := strconv.ParseUint(string(tableoid), 10, 32)
	if err == nil && c.gen.set.TableByOID(uint32(oid)) == st.table {
		return true
	}
	c.engine.stats.tableMismatches.Add(1)
	c.sessionStale, c.doubtful = true, true
	if err == nil {
		other := c.gen.set.TableByOID(uint32(oid))
		if other == nil {
			other = st.table // a partition made since the catalogue was read belongs to it, too
		}
		c.engine.stats.coarseReasons.add(coarseOtherTable)
		c.tx.coarse([]*rules.Table{other})
	}
	return false
}

// decode turns a row's captured texts into a change.
func (st *step) decode(cells [][]byte) (change, error) {
	t := st.table
	ch := change{table: t}
	if cells[0] == nil {
		return ch, fmt.Errorf("the version that was captured for %s is NULL", t.Name)
	}
	var err error
	if ch.version, ch.xid, err = rules.ParseVersion(string(cells[0])); err != nil {
		return ch, fmt.Errorf("version of a row of %s: %w", t.Name, err)
	}
	ch.keys, ch.shared = t.Keys(keyTexts(cells[2 : 2+len(t.KeyColumns)]))
	if st.payloads {
		ch.payloads = make([][]byte, len(ch.keys))
		next := 2 + len(t.KeyColumns)
		for i, e := range t.Entries {
			if e.Strategy == rules.StrategyWrite {
				ch.payloads[i] = bytes.Clone(cells[next])
				next++
			}
		}
	}
	if st.oldKeys {
		ch.old, err = oldKeys(t, cells[len(cells)-1])
	}
	return ch, err
}

func keyTexts(cells [][]byte) []*string {
	texts, values := make([]string, len(cells)), make([]*string, len(cells))
	for i, cell := range cells {
		if cell != nil {
			texts[i] = string(cell)
			values[i] = &texts[i]
		}
	}
	return values
}

// oldKeys reads the json array of key texts that the statement kept of the row
// before it was changed. It is empty for a row that was inserted.
func oldKeys(t *rules.Table, text []byte) ([]string, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var values []*string
	if err := json.Unmarshal(text, &values); err != nil || len(values) != len(t.KeyColumns) {
		return nil, fmt.Errorf("old keys of a row of %s cannot be read: %q", t.Name, text)
	}
	entries, shared := t.Keys(values)
	return slices.Concat(entries, shared), nil
}

// owed is what a transaction's log comes to: what each key is to hold after COMMIT.
type owed struct {
	strict   map[string]cachesync.Entry
	eventual map[string]struct{} // keys that become absent after COMMIT, without a fence
	coarse   []*rules.Table
	blurred  []*rules.Table // no payload of theirs is certain
	refusing []string       // tables whose rules refuse to commit without a fence
	tables   []string       // all that were written
	xact     xact           // that commits it; asked for where the outcome is in doubt
	floors   []*floor       // to be raised with the outcome
	allAsync bool           // all their rules are `apply: async`; set by settle alone
	replicas int            // that must have the fences: the most that any rule waits for
}

func (o *owed) empty() bool {
	return len(o.strict) == 0 && len(o.eventual) == 0 && len(o.coarse) == 0
}

// settle merges the log: the last capture of a key wins, and a key that one
// statement both took from a row and gave to another holds nothing, since the order
// of its rows is not for certain.
func (c *conn) settle() *owed {
	o := &owed{xact: c.tx.xact, floors: c.tx.floors, allAsync: len(c.tx.log) > 0}
	for _, ch := range c.tx.log {
		if ch.coarse {
			o.coarse = appendTables(o.coarse, ch.table)
		}
		if ch.blurs {
			o.blurred = appendTables(o.blurred, ch.table)
		}
	}
	left := map[string]int{} // key -> statement that took it from a row
	var last *rules.Table
	for i := range c.tx.log {
		ch := &c.tx.log[i]
		if ch.table != last && !ch.blurs {
			last = ch.table
			c.settleTable(o, last)
		}
		c.settleChange(o, left, ch)
	}
	return o
}

// settleTable takes in what the rule of a written table asks for.
func (c *conn) settleTable(o *owed, t *rules.Table) {
	name := t.Name.String()
	if !slices.Contains(o.tables, name) {
		o.tables = append(o.tables, name)
	}
	if t.Rule.RedisDown == rules.Refuse && !c.engine.eventual(t) && !slices.Contains(o.refusing, name) {
		o.refusing = append(o.refusing, name)
	}
	o.allAsync = o.allAsync && t.Rule.Apply == rules.Async
	o.replicas = max(o.replicas, t.Rule.WaitReplicas)
}

// leave adds the keys that the row has and had, for a rule without fences.
func (o *owed) leave(ch *change) {
	if o.eventual == nil {
		o.eventual = map[string]struct{}{}
	}
	for _, keys := range [...][]string{ch.old, ch.keys, ch.shared} {
		for _, key := range keys {
			if key != "" {
				o.eventual[key] = struct{}{}
			}
		}
	}
}

func (c *conn) settleChange(o *owed, left map[string]int, ch *change) {
	if ch.blurs || o.wholly(ch.table) {
		return // where the table is coarse the barrier and the sweeps see to every key
	}
	if c.engine.eventual(ch.table) {
		o.leave(ch)
		return
	}
	if o.strict == nil {
		o.strict = map[string]cachesync.Entry{}
	}
	uncertain := c.tx.mixed || slices.ContainsFunc(o.blurred, func(t *rules.Table) bool { return t.Barrier == ch.table.Barrier })
	for _, key := range ch.old {
		if key != "" && !slices.Contains(ch.keys, key) {
			o.strict[key] = cachesync.Entry{}
			left[key] = ch.statement
		}
	}
	for i, key := range ch.keys {
		if key == "" {
			continue
		}
		entry := ch.entry(i)
		if at, ok := left[key]; uncertain || ok && at == ch.statement {
			entry.Payload = nil
		}
		o.strict[key] = entry
	}
	for _, key := range ch.shared {
		if key != "" {
			o.strict[key] = cachesync.Entry{}
		}
	}
}

// entry is what the change stores under its i-th key.
func (ch *change) entry(i int) cachesync.Entry {
	if ch.payloads == nil {
		return cachesync.Entry{}
	}
	rule := ch.table.Entries[i]
	return cachesync.Entry{
		Version: ch.version, Schema: rule.Schema, TTL: rule.TTL, Jitter: rule.Jitter,
		Format: cacheFormat(rule.Format), Payload: ch.payloads[i],
	}
}

func cacheFormat(f rules.Format) cachesync.Format {
	format, _ := cachesync.FormatOf(string(f)) // a rule has none but these
	return format
}

// eventual says whether a table's writes go without fences.
func (e *engine) eventual(t *rules.Table) bool {
	return e.cfg.Mode == ModeEventual || t.Rule.Consistency == rules.Eventual
}
