package wtcache

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/wtcache/wtcache/rules"
)

// warming is the warming of one entry.
type warming struct {
	target   target
	walk     rules.Walk
	from, to []string // texts, nil for no bound

	after  []string // the last place that is done, nil for none
	counts WarmCounts
	failed bool
}

func newWarming(t target, opts WarmOptions) (*warming, error) {
	if t.gen.degraded {
		return nil, fmt.Errorf("%w: the rules no longer fit the catalogue, and nothing may be filled until they do; see wtcache check", ErrRules)
	}
	walk, ok := t.table.Walk(t.entry.Index)
	if !ok {
		return nil, fmt.Errorf("%w: %w: %s cannot be warmed: the key %s holds no unique index of %s, along which its rows could be gone through (columns %s); name the other entries",
			ErrConfig, errNoWalk, t.name, t.entry.Key, t.table.Name, strings.Join(t.entry.Key.Columns(), ", "))
	}
	e := &warming{target: t, walk: walk}
	var err error
	if e.from, err = e.bound("from", opts.From); err != nil {
		return nil, err
	}
	if e.to, err = e.bound("to", opts.To); err != nil {
		return nil, err
	}
	return e, nil
}

// bound gives the texts of one end of a range.
func (e *warming) bound(which string, values []any) ([]string, error) {
	if len(values) > len(e.walk.Columns) {
		return nil, fmt.Errorf("%w: %s has %s, and the rows of %s are gone through by %s",
			ErrKey, which, count(len(values), "value"), e.target.name, strings.Join(e.walk.Columns, ", "))
	}
	var texts []string
	for i, v := range values {
		text, err := keyText(v, e.target.table.KeyType(e.walk.Columns[i]))
		if err != nil {
			return nil, fmt.Errorf("%w: %s, column %s of %s: %w", ErrKey, which, e.walk.Columns[i], e.target.name, err)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// bounds gives the range that is left behind a place, and its parameters.
func (e *warming) bounds(after []string) (rules.Bounds, []any) {
	b := rules.Bounds{Before: len(e.to)}
	var args []any
	add := func(texts []string) {
		for _, text := range texts {
			args = append(args, text)
		}
	}
	if after == nil {
		b.From = len(e.from)
		add(e.from)
	} else {
		b.After = true
		add(after)
	}
	add(e.to)
	return b, args
}

// page gives the next keys behind a place, and the place of the last of them.
func (e *warming) page(ctx context.Context, db *sql.DB, after []string, limit int) (asks []asked, last []string, err error) {
	b, args := e.bounds(after)
	rows, err := db.QueryContext(ctx, e.walk.Page(b, limit), args...)
	if err != nil {
		return nil, nil, e.explain(err)
	}
	defer func() { _ = rows.Close() }() // read to the end below; its error is Err's
	columns := e.target.entry.Key.Columns()
	asks = make([]asked, 0, limit)
	for rows.Next() {
		a := asked{texts: make([]string, len(columns))}
		dest := make([]any, len(columns))
		for i := range a.texts {
			dest[i] = &a.texts[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, nil, err
		}
		a.key, _ = e.target.entry.Key.Render(func(column string) (string, bool) { return a.texts[slices.Index(columns, column)], true })
		asks = append(asks, a)
	}
	if err := rows.Err(); err != nil || len(asks) == 0 {
		return nil, nil, e.explain(err)
	}
	for _, name := range e.walk.Columns {
		last = append(last, asks[len(asks)-1].texts[slices.Index(columns, name)])
	}
	if slices.Equal(last, after) {
		return nil, nil, fmt.Errorf("wtcache: warm %s: the walk stands still at %q: Postgres does not read the key's text as the value that it is of", e.target.name, last)
	}
	return asks, last, nil
}

// explain says of an error of the database what follows from it.
func (e *warming) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case planIsOld(err):
		return fmt.Errorf("%w, or the role may not read it: warm %s: %w; see wtcache check, and begin again without resuming", ErrWarmChanged, e.target.name, err)
	}
	return fmt.Errorf("wtcache: warm %s: %w", e.target.name, err)
}

// size is the number of rows in the range, as counted or as the planner guesses.
func (e *warming) size(ctx context.Context, db *sql.DB, exact bool) (int64, error) {
	b, args := e.bounds(nil)
	query := e.walk.Estimate(b)
	if exact {
		query = e.walk.Count(b)
	}
	var text string
	if err := db.QueryRowContext(ctx, query, args...).Scan(&text); err != nil {
		return 0, err
	}
	if exact {
		return strconv.ParseInt(text, 10, 64)
	}
	var plans []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) == 0 {
		return 0, nil // another server's plan: the total is not known
	}
	return int64(plans[0].Plan.Rows), nil
}

// warmToken is what a resume token holds.
type warmToken struct {
	Format int          `json:"v"`
	Print  string       `json:"print"` // of entries, rules and range
	At     int          `json:"at"`    // the entry under way
	After  []string     `json:"after"` // its last place that is done; null: none
	Counts []WarmCounts `json:"counts"`
}

const warmTokenFormat = 1

func (w *warmer) token() string {
	t := warmToken{Format: warmTokenFormat, Print: w.print(), At: w.at}
	if w.at < len(w.plan) {
		t.After = w.plan[w.at].after
	}
	for _, e := range w.plan {
		t.Counts = append(t.Counts, e.counts)
	}
	text, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and numbers
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// print is the fingerprint of what is warmed.
func (w *warmer) print() string {
	var all []any
	for _, e := range w.plan {
		all = append(all, e.target.table.Name.String(), e.target.entry.Name, e.target.entry.Key.String(), e.target.entry.Schema, e.walk.Columns, e.from, e.to)
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err) // strings
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// resume goes to where a token says.
func (w *warmer) resume(text string) error {
	if text == "" {
		return nil
	}
	var t warmToken
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: this is no token of Warm: %w", ErrWarmResume, err)
	case t.Format != warmTokenFormat:
		return fmt.Errorf("%w: the token is of another version of wtcache; begin again without it", ErrWarmResume)
	case t.Print != w.print():
		return fmt.Errorf("%w: the token is of other entries, of another range, or the rules or the table have changed since; begin again without it", ErrWarmResume)
	case t.At < 0 || t.At > len(w.plan) || len(t.Counts) != len(w.plan) || t.After != nil && (t.At == len(w.plan) || len(t.After) != len(w.plan[t.At].walk.Columns)):
		return fmt.Errorf("%w: the token is damaged; begin again without it", ErrWarmResume)
	}
	w.at = t.At
	for i, e := range w.plan {
		e.counts = t.Counts[i]
	}
	if t.After != nil {
		w.plan[t.At].after = t.After
	}
	return nil
}
