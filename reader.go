package wtcache

import (
	"context"
	"database/sql"
	"reflect"
)

// Reader reads the rows of one entry as values of T: a struct, a map, []byte or
// json.RawMessage; see Cache for what it does, and the README for how columns become
// fields. It is safe for concurrent use.
type Reader[T any] struct {
	cache *Cache
	entry string
}

// Row is a row as a Reader gives it.
type Row[T any] struct {
	Value T // the zero value where there is no such row
	// Found: there is such a row.
	Found bool
	Read
}

// ReaderOf gives the reader of an entry, "users" or "users.by_email", of a *sql.DB that was
// opened through wtcache. A name that no rule has is an error now, which says what there is.
func ReaderOf[T any](db *sql.DB, entry string, opts ...ReadOption) (*Reader[T], error) {
	cache, err := CacheOf(db)
	if err != nil {
		return nil, err
	}
	if err := checkRowType(reflect.TypeFor[T]()); err != nil {
		return nil, err
	}
	if _, err := entryOf(entry, cache.engine.rules); err != nil {
		return nil, err
	}
	return &Reader[T]{cache.With(opts...), entry}, nil
}

// With gives a reader with further options: users.With(wtcache.MaxAge(time.Second)).Get(ctx, 42).
func (r *Reader[T]) With(opts ...ReadOption) *Reader[T] {
	return &Reader[T]{r.cache.With(opts...), r.entry}
}

// Get reads one row. key gives the values of the key template's columns in its order, or is
// one Key. A row that is not there is sql.ErrNoRows.
func (r *Reader[T]) Get(ctx context.Context, key ...any) (T, error) {
	row, err := r.Row(ctx, key...)
	if err == nil && !row.Found {
		err = sql.ErrNoRows
	}
	return row.Value, err
}

// Row is Get with what is known of the row: whether there is one, where it came from, and
// how old it is.
func (r *Reader[T]) Row(ctx context.Context, key ...any) (Row[T], error) {
	t, got, err := r.cache.one(ctx, r.entry, key)
	if err != nil {
		return Row[T]{}, err
	}
	return rowAs[T](t, got)
}

// GetMany reads several rows: one MGET, one statement for what Redis does not have. A key is
// a value, or where the entry's key has several columns a Values or a Key. The rows are in
// the keys' order, those that are not there with Found false.
func (r *Reader[T]) GetMany(ctx context.Context, keys ...any) ([]Row[T], error) {
	t, got, err := r.cache.many(ctx, r.entry, keys)
	if err != nil {
		return nil, err
	}
	rows := make([]Row[T], len(got))
	for i, o := range got {
		if rows[i], err = rowAs[T](t, o); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func rowAs[T any](t target, o reading) (row Row[T], err error) {
	row.Found, row.Read = o.found, o.read
	if !o.found {
		return row, nil
	}
	if err = t.decode(o.payload, &row.Value); err != nil {
		var none T
		row.Value = none // not half of it
	}
	return row, err
}
