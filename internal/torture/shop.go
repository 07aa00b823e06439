package torture

import (
	"fmt"
	"os"
	"path/filepath"
)

// table is one of the tables that all processes write. Rows are few, so that writers meet.
type table struct {
	name   string
	rows   int
	format string // of its entries
	rule   string
}

// tables are each under another promise: what to do without Redis, how entries are stored, and how many entries a row has.
// Statements of accounts are never fenced before they run, since a row of it has two entries; those of the others are.
// Only lists suffers coarse writes.
var tables = []table{
	{"accounts", 4, "envelope", `
table: public.accounts
redis_down: queue
entries:
  - {name: by_id, key: "account:{id}"}
  - {name: by_code, key: "account:code:{code}"}
`},
	{"limits", 3, "hash", `
table: public.limits
redis_down: refuse
entries: [{name: by_id, key: "limit:{id}", format: hash}]
`},
	{"lists", 2, "plain", `
table: public.lists
redis_down: queue
entries: [{name: by_id, key: "list:{id}", format: plain}]
`},
}

const ddl = `
CREATE TABLE accounts (id int PRIMARY KEY, code text NOT NULL UNIQUE, n bigint NOT NULL);
CREATE TABLE limits (id int PRIMARY KEY, code text NOT NULL, n bigint NOT NULL);
CREATE TABLE lists (id int PRIMARY KEY, code text NOT NULL, n bigint NOT NULL);`

// place is a row of one of the tables; key numbers all of them.
type place struct{ table, row int }

const rowsPerTable = 100

func (p place) key() int       { return p.table*rowsPerTable + p.row }
func (p place) name() string   { return tables[p.table].name }
func (p place) code() string   { return codeOf(p.row) }
func (p place) String() string { return fmt.Sprintf("%s %d", p.name(), p.row) }
func (p place) format() string { return tables[p.table].format }
func placeOf(key int) place    { return place{key / rowsPerTable, key % rowsPerTable} }
func codeOf(row int) string    { return fmt.Sprintf("c%d", row) }
func (p place) hasCode() bool  { return p.table == 0 }

// names are the row's keys in Redis.
func (p place) names() []string {
	names := []string{fmt.Sprintf("%s:%d", p.name()[:len(p.name())-1], p.row)}
	if p.hasCode() {
		names = append(names, "account:code:"+p.code())
	}
	return names
}

// places are all rows.
func places() (all []place) {
	for t := range tables {
		for r := range tables[t].rows {
			all = append(all, place{t, r})
		}
	}
	return all
}

// writeRules puts the rule files where the processes find them.
func writeRules(dir string, further string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, t := range tables {
		if err := os.WriteFile(filepath.Join(dir, t.name+".yaml"), []byte(t.rule+further), 0o644); err != nil {
			return err
		}
	}
	return nil
}
