package wtcache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wtcache/wtcache/rules"
)

// fact is what the database has for a key.
type fact struct {
	row
	fits    bool // `when` holds
	spelt   bool // the payload is spelt as entries are
	secured bool // there may be a row that row-level security hides
	several bool // the key is not unique
	foreign bool // the column's type has no such value
	// committed is when the row's latest change was, in seconds since 1970; 0 where that is not known.
	committed float64
	version   string // of what is written now
}

// changed is how long ago the row's latest change was committed.
func (f *fact) changed() (time.Duration, bool) {
	if f.committed <= 0 {
		return 0, false
	}
	return max(time.Since(time.UnixMicro(int64(f.committed*1e6))), 0), true
}

var (
	integerText = regexp.MustCompile(`^-?[0-9]{1,19}$`)
	uuidText    = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// mayHold says whether the key's columns may hold the texts. A text that they do not hold would
// fail the query of a whole batch.
func (t target) mayHold(texts []string) bool {
	for i, column := range t.entry.Key.Columns() {
		switch t.table.KeyType(column) {
		case "int2", "int4", "int8":
			if !integerText.MatchString(texts[i]) {
				return false
			}
		case "uuid":
			if !uuidText.MatchString(texts[i]) {
				return false
			}
		}
	}
	return true
}

// facts asks the database for several keys, in one statement and one snapshot. Where it refuses
// a text, the batch is halved until the text is alone.
func (a *auditor) facts(ctx context.Context, t target, asks []asked) ([]fact, error) {
	got, err := a.query(ctx, t, asks)
	refused, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok || !strings.HasPrefix(refused.Code, "22"): // "data exception"
		return got, err
	case len(asks) == 1:
		return []fact{{foreign: true}}, nil
	}
	half := len(asks) / 2
	first, err := a.facts(ctx, t, asks[:half])
	if err != nil {
		return nil, err
	}
	second, err := a.facts(ctx, t, asks[half:])
	return append(first, second...), err
}

// query runs in a transaction of its own, in which values are spelt as in entries. Its isolation
// is said, so that the snapshot is the query's: one that began with the transaction would do as well.
func (a *auditor) query(ctx context.Context, t target, asks []asked) ([]fact, error) {
	tx, err := a.cache.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // it has read only
	if settings := t.entry.AuditSettings(); settings != "" {
		if _, err := tx.ExecContext(ctx, settings); err != nil {
			return nil, err
		}
	}
	got, err := a.read(ctx, tx, t, asks)
	if err != nil {
		return nil, err
	}
	var version string
	if err := tx.QueryRowContext(ctx, "SELECT "+rules.VersionSQL).Scan(&version); err != nil {
		return nil, err
	}
	if version, _, err = rules.ParseVersion(version); err != nil {
		return nil, err
	}
	for i := range got {
		got[i].version = version
	}
	return got, nil
}

// read reads the columns in the layout that rules.Table.AuditMany describes.
func (a *auditor) read(ctx context.Context, from Queryer, t target, asks []asked) ([]fact, error) {
	columns := t.entry.Key.Columns()
	args := make([]any, len(columns))
	for column := range args {
		texts := make([]string, len(asks))
		for i, ask := range asks {
			texts[i] = ask.texts[column]
		}
		args[column] = rules.ArrayLiteral(texts)
	}
	rows, err := from.QueryContext(ctx, t.table.AuditMany(t.entry.Index, a.times), args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // read to the end below; its error is Err's
	width := 1 + len(columns) + 5
	if a.times {
		width++
	}
	got := make([]fact, len(asks))
	for rows.Next() {
		cells := make([]sql.NullString, width)
		if err := rows.Scan(pointers(cells)...); err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(cells[0].String)
		if err != nil || n < 1 || n > len(got) {
			return nil, fmt.Errorf("wtcache: audit %s: the database answered for key number %q of %d", t.name, cells[0].String, len(got))
		}
		if cells[width-1].String == "true" {
			return nil, errStandby
		}
		several := got[n-1].found
		got[n-1] = t.factOf(cells[1:], a.times)
		got[n-1].several = several
	}
	return got, rows.Err()
}

func (t target) factOf(cells []sql.NullString, times bool) fact {
	columns := t.entry.Key.Columns()
	keys, rest := cells[:len(columns)], cells[len(columns):]
	f := fact{fits: rest[1].String == "true", spelt: rest[2].String == "true", secured: rest[len(rest)-2].String == "true"}
	f.payload, f.found = []byte(rest[0].String), rest[0].Valid
	if times && rest[3].Valid {
		f.committed, _ = strconv.ParseFloat(rest[3].String, 64)
	}
	f.key, _ = t.entry.Key.Render(func(column string) (string, bool) {
		cell := keys[slices.Index(columns, column)]
		return cell.String, cell.Valid
	})
	return f
}
