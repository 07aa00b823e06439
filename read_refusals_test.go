package wtcache_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/wtcache/wtcache"
)

// A type that can hold no row is told of when the reader is made, not by the first read in
// production.
func TestReaderOfATypeThatHoldsNoRow(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	for name, open := range map[string]func() error{
		"int":           func() error { _, err := wtcache.ReaderOf[int](l.db, "accounts"); return err },
		"[]int":         func() error { _, err := wtcache.ReaderOf[[]int](l.db, "accounts"); return err },
		"*int":          func() error { _, err := wtcache.ReaderOf[*int](l.db, "accounts"); return err },
		"chan struct":   func() error { _, err := wtcache.ReaderOf[chan struct{}](l.db, "accounts"); return err },
		"error":         func() error { _, err := wtcache.ReaderOf[error](l.db, "accounts"); return err },
		"bool":          func() error { _, err := wtcache.ReaderOf[bool](l.db, "accounts"); return err },
		"[][]byte":      func() error { _, err := wtcache.ReaderOf[[][]byte](l.db, "accounts"); return err },
		"**account":     func() error { _, err := wtcache.ReaderOf[**account](l.db, "accounts"); return err },
		"func() string": func() error { _, err := wtcache.ReaderOf[func() string](l.db, "accounts"); return err },
	} {
		if err := open(); err == nil || !strings.Contains(err.Error(), "take a struct") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, read := range map[string]func() error{
		"struct":     func() error { return readOne[account](l) },
		"*struct":    func() error { return readOne[*account](l) },
		"map":        func() error { return readOne[map[string]any](l) },
		"any":        func() error { return readOne[any](l) },
		"[]byte":     func() error { return readOne[[]byte](l) },
		"RawMessage": func() error { return readOne[json.RawMessage](l) },
		"string":     func() error { return readOne[string](l) },
	} {
		if err := read(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func readOne[T any](l *ledger) error {
	r, err := wtcache.ReaderOf[T](l.db, "accounts")
	if err == nil {
		_, err = r.Get(context.Background(), 1)
	}
	return err
}

// A row that does not fit is no row: half of its fields must not be taken for one.
func TestReaderGivesNoHalfRow(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	type unfit struct {
		ID int
		N  struct{ No, Number bool }
	}
	r, err := wtcache.ReaderOf[unfit](l.db, "accounts")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Get(context.Background(), 1); err == nil || got != (unfit{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A transaction that was forgotten, or has ended, must not become a read outside of it, and
// the error must say which of the two it is.
func TestReaderInNoTransaction(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	l.warm(1)
	r, err := wtcache.ReaderOf[account](l.db, "accounts")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.With(wtcache.In(nil)).Get(context.Background(), 1); err == nil || !strings.Contains(err.Error(), "In takes") {
		t.Errorf("In(nil): %v", err)
	}
	tx, err := l.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.With(wtcache.In(tx)).Get(context.Background(), 1); !errors.Is(err, sql.ErrTxDone) || strings.Contains(err.Error(), "In takes") {
		t.Errorf("a transaction that has ended: %v", err)
	}
	gone, cancel := context.WithCancel(context.Background())
	tx, err = l.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	cancel()
	if _, err := r.With(wtcache.In(tx)).Get(gone, 1); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "In takes") {
		t.Errorf("a context that has ended: %v", err)
	}
}
