package torture

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/linear"
)

// actor is one client of a process.
type actor struct {
	*process
	client int
	r      *rand.Rand
}

// act does one thing. One of a writer's things in so many is a read, so that what a process remembers of its own writes is
// seen; readers do not write.
func (a *actor) act(ctx context.Context) {
	if a.Role == reader || a.r.IntN(5) == 0 {
		a.read(ctx)
		return
	}
	way := pick(a.r, ways, func(w way) int { return w.weight })
	way.do(a, ctx, way)
}

// pick draws by weight.
func pick[T any](r *rand.Rand, from []T, weight func(T) int) T {
	total := 0
	for _, f := range from {
		total += weight(f)
	}
	n := r.IntN(total)
	for _, f := range from {
		if n -= weight(f); n < 0 {
			return f
		}
	}
	panic("unreachable")
}

// somewhere draws a row of any table, or of the one named.
func (a *actor) somewhere(in string) place {
	for {
		all := places()
		if p := all[a.r.IntN(len(all))]; in == "" || p.name() == in {
			return p
		}
	}
}

func (a *actor) read(ctx context.Context) {
	how, rows := byID, []place{a.somewhere("")}
	switch n := a.r.IntN(20); {
	case n == 0:
		how = fresh
	case n < 4 && rows[0].hasCode():
		how = byCode
	case n < 7:
		rows = rows[:0]
		t := a.r.IntN(len(tables))
		for r := range tables[t].rows {
			rows = append(rows, place{t, r})
		}
	}
	call := now()
	got, err := a.cache.get(ctx, rows, how)
	returned := now()
	if errors.Is(err, errAnotherRow) {
		slog.Error(err.Error())
		os.Exit(3)
	}
	records := make([]record, len(rows))
	for i, p := range rows {
		r := record{
			Op: a.nextOp(), Client: a.client, Key: p.key(), Kind: linear.Read, Value: linear.Absent,
			Call: call, Return: returned, Way: how.String(),
		}
		if len(rows) > 1 {
			r.Way = "GetMany"
		}
		if err != nil {
			r.Failed, r.Error = true, err.Error()
		} else if got[i].there {
			r.Value = got[i].value
		}
		if err == nil {
			r.Cached = got[i].cached
		}
		records[i] = r
	}
	a.journal.add(records...)
}

// begin takes writes down before anything of them is sent.
func (a *actor) begin(way string, kind linear.Kind, rows ...image) []record {
	records := make([]record, len(rows))
	call := now()
	for i, r := range rows {
		records[i] = record{Op: a.nextOp(), Client: a.client, Key: r.key(), Kind: kind, Value: r.value, Call: call, Way: way}
		if !r.there {
			records[i].Kind, records[i].Value = linear.Delete, linear.Absent
		}
	}
	a.journal.add(records...)
	return records
}

// end takes down what became of them.
func (a *actor) end(records []record, o outcome, err error) {
	returned := now()
	for i := range records {
		records[i].Return = returned
		if records[i].Outcome == "" || o != done {
			records[i].Outcome = o
		}
		if err != nil {
			records[i].Error = err.Error()
		}
	}
	a.journal.add(records...)
}

// outcomeOf judges the error of what commits.
func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return done
	case errors.Is(err, wtcache.ErrRefused), refusedByServer(err), neverSent(err):
		return refused
	}
	return unknown
}

// neverSent says that there was no connection to send it on.
func neverSent(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

// refusedByServer says that the server itself has answered that nothing was committed. Of a session that is ended by its
// administrator, or that breaks, that is not certain.
func refusedByServer(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	class := pg.Code[:2]
	return !slices.Contains([]string{"08", "58", "XX"}, class) && !strings.HasPrefix(pg.Code, "57P")
}

// execer is a database or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// writeRow carries out a statement on one row, or says that none was there.
func writeRow(ctx context.Context, on execer, text string, args ...any) (wrote bool, err error) {
	result, err := on.ExecContext(ctx, text, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
