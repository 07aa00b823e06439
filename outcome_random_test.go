package wtcache_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

var randomStatements = []string{
	"UPDATE accounts SET n = %d WHERE id = 1",
	"UPDATE accounts SET n = %d WHERE id = 2",
	"UPDATE accounts SET n = n + %d WHERE id IN (1, 2, 3)",
	"INSERT INTO accounts VALUES (3, %d) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n",
	"DELETE FROM accounts WHERE id = 3 AND %[1]d = %[1]d",
	"UPDATE unruled SET n = %d",
	"SELECT %d",
	"SAVEPOINT a", "SAVEPOINT b", "SAVEPOINT a", "SAVEPOINT b",
	"ROLLBACK TO a", "ROLLBACK TO b", "RELEASE a", "RELEASE b",
	"BEGIN", "BEGIN", "BEGIN", "COMMIT", "COMMIT", "ROLLBACK",
	"COMMIT AND CHAIN", "ROLLBACK AND CHAIN",
	"SELECT %d/0",
	"UPDATE accounts SET owner = 99 WHERE id = 2 AND %[1]d = %[1]d", // fails at COMMIT
}

// randomText makes a text of one to three statements.
func randomText(r *rand.Rand) string {
	var parts []string
	for range 1 + r.IntN(3)*r.IntN(2) {
		s := randomStatements[r.IntN(len(randomStatements))]
		if strings.Contains(s, "%") {
			s = fmt.Sprintf(s, 1+r.IntN(1000))
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, "; ")
}

// Programs that nobody thought of: any mix of writes, transaction words and failures, cut
// into texts at random, must leave the tables as pgx alone does, give the same errors, and
// leave nothing in the cache that is not in the table.
func TestOutcomeOfRandomPrograms(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	twinDSN, _ := testenv.Schema(t, testenv.Postgres(t))
	twin := openPlain(t, twinDSN)
	if _, err := twin.Exec(ledgerSQL); err != nil {
		t.Fatal(err)
	}
	cached := 0
	for seed := range uint64(120) {
		p := program{l: l, twin: twin, rand: rand.New(rand.NewPCG(seed, 2))}
		p.run()
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, strings.Join(p.texts, "\n"))
		}
		cached += p.cached
	}
	if cached < 250 {
		t.Errorf("only %d entries were cached at the looks: the test sees too little", cached)
	}
}

type program struct {
	l      *ledger
	twin   *sql.DB
	rand   *rand.Rand
	texts  []string
	cached int
}

func (p *program) run() {
	t, ctx := p.l.t, context.Background()
	ours, err := p.l.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := p.twin.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for step := range 14 {
		text := randomText(p.rand)
		if step == 13 {
			text = "ROLLBACK"
		}
		p.texts = append(p.texts, text)
		_, err := ours.ExecContext(ctx, text)
		_, want := theirs.ExecContext(ctx, text)
		if sqlState(err) != sqlState(want) || (err == nil) != (want == nil) {
			t.Errorf("%s\ngave %v\nand through pgx alone %v", text, err, want)
		}
		status := txStatus(t, ours)
		if other := txStatus(t, theirs); status != other {
			t.Errorf("%s\nleft a transaction in state %q, and through pgx alone %q", text, status, other)
		}
		if status == 'I' {
			p.look()
		}
		if t.Failed() {
			return
		}
	}
}

func (p *program) look() {
	const all = "SELECT coalesce(string_agg(id || ':' || n, ' ' ORDER BY id), '') FROM accounts"
	var ours, theirs string
	if err := p.l.plain.QueryRow(all).Scan(&ours); err != nil {
		p.l.t.Fatal(err)
	}
	if err := p.twin.QueryRow(all).Scan(&theirs); err != nil {
		p.l.t.Fatal(err)
	}
	if ours != theirs {
		p.l.t.Errorf("the table is\n%s\nand through pgx alone\n%s", ours, theirs)
	}
	for id := 1; id <= 3; id++ {
		n, there := p.l.entry(id)
		if !there {
			continue
		}
		p.cached++
		if row := fmt.Sprintf("%d:%d", id, n); !strings.Contains(" "+ours+" ", " "+row+" ") {
			p.l.t.Errorf("cached is %s and the table is %s", row, ours)
		}
	}
}

func txStatus(t *testing.T, conn *sql.Conn) (status byte) {
	t.Helper()
	if err := conn.Raw(func(dc any) error {
		pc, ok := wtcache.PgxConn(dc)
		if !ok {
			return fmt.Errorf("no pgx connection under %T", dc)
		}
		status = pc.PgConn().TxStatus()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return status
}
