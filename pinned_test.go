package wtcache_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
)

// secured puts row-level security in force on tables for a role, and runs statements as that.
func secured(t *testing.T, h *shelf, tables ...string) (exec func(text string, args ...any)) {
	t.Helper()
	role := "secured_" + h.schema
	h.must("CREATE ROLE " + role + "; GRANT USAGE ON SCHEMA " + h.schema + " TO " + role)
	t.Cleanup(func() { h.must("DROP OWNED BY " + role + "; DROP ROLE " + role) })
	for _, table := range tables {
		h.must(fmt.Sprintf("ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY; ALTER TABLE %[1]s FORCE ROW LEVEL SECURITY; CREATE POLICY p ON %[1]s USING (true); GRANT ALL ON %[1]s TO %[2]s", table, role))
	}
	conn, err := h.db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	exec = func(text string, args ...any) {
		t.Helper()
		if _, err := conn.ExecContext(context.Background(), text, args...); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	exec("SET ROLE " + role)
	return exec
}

// bothConsistencies are rules' lines.
var bothConsistencies = []string{"", eventualRule}

// Under row-level security a statement is sent as it is, and its keys are those in its text. A table below the one that it
// names may have a rule of its own: its readers must not get the old row.
func TestSecuredWriteReachesRulesOfPartitions(t *testing.T) {
	for _, rule := range bothConsistencies {
		h := newShelf(t, shelfSetup{ddl: `CREATE TABLE mid (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE leaf PARTITION OF mid FOR VALUES IN ('a'); INSERT INTO mid VALUES (1, 'a', 0)`, rules: map[string]string{
			"mid":  "table: {S}.mid\nkey: \"{P}m:{id}:{region}\"\n" + rule,
			"leaf": "table: {S}.leaf\nkey: \"{P}l:{id}:{region}\"\n" + rule,
		}})
		exec := secured(t, h, "mid", "leaf")
		readers := map[string]*wtcache.Reader[crowdRow]{
			"mid": readerOf[crowdRow](t, h.db, "mid.by_id_region"), "leaf": readerOf[crowdRow](t, h.db, "leaf.by_id_region"),
		}
		for _, r := range readers {
			seen(t, r, wtcache.Values{1, "a"})
		}
		exec("UPDATE mid SET n = n + 1 WHERE id = 1 AND region = 'a'")
		for name, r := range readers {
			if got := seen(t, r, wtcache.Values{1, "a"}); got.Value.N != 1 {
				t.Errorf("%s%s: its reader gets %d, the row is 1", rule, name, got.Value.N)
			}
		}
	}
}

// What a text shows of a key is not always what is stored. Where the row is not captured nothing else would tell, and
// "no such row" stayed cached although the row is there; where it is, that would be a bug that is counted.
func TestKeysAreNotTakenFromTextsThatMisspellThem(t *testing.T) {
	const upper, lower = "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	for _, rule := range bothConsistencies {
		for _, security := range []bool{false, true} {
			h := newShelf(t, shelfSetup{ddl: `CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE crowd (id text PRIMARY KEY, n int, u uuid); CREATE UNIQUE INDEX ON crowd (id COLLATE ci); INSERT INTO crowd VALUES ('ABC', 0)`,
				rules: map[string]string{"crowd": "table: {S}.crowd\nkey: \"{P}c:{id}\"\nnegative_ttl: 1h\n" + rule}})
			reader := readerOf[crowdRow](t, h.db, "crowd")
			exec := h.exec
			if security {
				exec = secured(t, h, "crowd")
			}
			for _, c := range []struct {
				stored string
				text   string
				args   []any
			}{
				{"7", "INSERT INTO crowd (n, id) VALUES ($1::int, $1)", []any{"007"}},
				{lower, "INSERT INTO crowd (u, id, n) VALUES ($1::uuid, $1, 7)", []any{upper}},
				{"99999999999", "INSERT INTO crowd (id, n) VALUES (00099999999999, 7)", nil},
				{"ABC", "INSERT INTO crowd (id, n) VALUES ('abc', 7) ON CONFLICT (id COLLATE ci) DO UPDATE SET n = excluded.n", nil},
			} {
				seen(t, reader, c.stored)
				exec(c.text, c.args...)
				if got := seen(t, reader, c.stored); got.Value.N != 7 {
					t.Errorf("%ssecurity %v: after %s the reader of %q gets %+v", rule, security, c.text, c.stored, got)
				}
			}
			if s, err := wtcache.StatsOf(h.db); err != nil || s.KeyMismatches != 0 {
				t.Errorf("%ssecurity %v: %d keys were others than expected (%v)", rule, security, s.KeyMismatches, err)
			}
		}
	}
}

// A write whose RETURNING the client cannot decode has been committed all the same.
func TestWriteWithRowsThatCannotBeDecoded(t *testing.T) {
	for _, rule := range bothConsistencies {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement} {
			for _, text := range []string{`UPDATE accounts SET n = n + 1 WHERE id = 1 RETURNING '\x01'::bytea`, "UPDATE accounts SET n = n + 1 WHERE id = 1 RETURNING now()"} {
				l := newLedger(t, ledgerSetup{rule: rule})
				other := l.beside(ledgerSetup{rule: rule, base: func(driver.Connector) driver.Connector {
					cfg, err := pgx.ParseConfig(l.dsn)
					if err != nil {
						t.Fatal(err)
					}
					cfg.DefaultQueryExecMode = mode
					cfg.RuntimeParams["bytea_output"], cfg.RuntimeParams["datestyle"] = "escape", "German"
					return stdlib.GetConnector(*cfg)
				}})
				l.warm(1)
				if rows, err := other.db.Query(text); err == nil {
					for rows.Next() { //nolint:revive // the rows are of no interest
					}
					_ = rows.Close()
				}
				l.wantRow(1, 1)
				// Whether it was committed is in doubt; an eventual rule's entries go behind the caller then.
				eventually(t, fmt.Sprintf("%s%v, %s: the old row is cached no more", rule, mode, text), func() bool {
					n, there := l.entry(1)
					return !there || n == 1
				})
			}
		}
	}
}
