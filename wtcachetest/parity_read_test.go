package wtcachetest

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wtcache/wtcache"
)

// parityReads are the parityCases of readers.
var parityReads = []parityCase{
	{"read", func(sqlmock.Sqlmock, *Cache) {}, func(t *testing.T, db *sql.DB) {
		reader, err := wtcache.CacheOf(db)
		if err != nil {
			t.Fatal(err)
		}
		var row Row
		for _, want := range []bool{false, true} {
			read, err := reader.Get(context.Background(), "orders.by_id", &row, 1)
			if err != nil || read.FromCache != want || row["number"] != "A1" {
				t.Fatalf("read %+v %v, error %v; from the cache: want %v", read, row, err, want)
			}
		}
		if _, err := reader.Get(context.Background(), "users", &row, 1); err != nil || row["mail"] != "bob@x" {
			t.Fatalf("read %v, error %v", row, err)
		}
		if _, err := reader.Get(context.Background(), "users", &row, 44); !errors.Is(err, sql.ErrNoRows) {
			t.Fatalf("a row that is not there gives %v", err)
		}
	}},

	{"read of many", func(sqlmock.Sqlmock, *Cache) {}, func(t *testing.T, db *sql.DB) {
		reader := readerOf(t, db, "users")
		if row, err := reader.Row(context.Background(), 2); err != nil || row.Value["name"] != "Cid" {
			t.Fatalf("read %+v, error %v", row, err)
		}
		rows, err := reader.GetMany(context.Background(), 1, "44", 2, "01", "1")
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []any{"Bob", nil, "Cid", "Bob", "Bob"} {
			if rows[i].Value["name"] != want || rows[i].Found != (want != nil) || rows[i].FromCache != (want == "Cid") {
				t.Errorf("row %d is %+v, want %v", i, rows[i], want)
			}
		}
		if _, err := reader.GetMany(context.Background(), 1, "one"); !isState(err, "22P02") {
			t.Errorf("a key that is no number gives %v", err)
		}
	}},

	{"read of no row", func(m sqlmock.Sqlmock, _ *Cache) {
		m.ExpectExec("INSERT INTO notes").WillReturnResult(sqlmock.NewResult(0, 1))
	}, func(t *testing.T, db *sql.DB) {
		const id = "0e37df36-f698-11e6-8dd4-cb9ced3df976"
		reader := readerOf(t, db, "notes")
		for _, cached := range []bool{false, true} {
			if row, err := reader.Row(context.Background(), id); err != nil || row.Found || row.FromCache != cached {
				t.Errorf("read %+v, error %v; from the cache: want %v", row, err, cached)
			}
		}
		if row, err := reader.Row(context.Background(), strings.ToUpper("1"+id[1:])); err != nil || row.Found {
			t.Errorf("read %+v, error %v", row, err)
		}
		if _, err := reader.Get(context.Background(), "note"); !isState(err, "22P02") {
			t.Errorf("a key that is no UUID gives %v", err)
		}
		exec(t, db, "INSERT INTO notes VALUES ($1, 'hello', 's')", id)
		if row, err := reader.Row(context.Background(), id); err != nil || row.Value["line"] != "hello" || !row.FromCache {
			t.Errorf("after the INSERT read %+v, error %v", row, err)
		}
	}},

	{"read in a transaction", func(m sqlmock.Sqlmock, _ *Cache) {
		m.ExpectBegin()
		m.ExpectExec("UPDATE users").WillReturnResult(sqlmock.NewResult(0, 1))
		m.ExpectRollback()
	}, func(t *testing.T, db *sql.DB) {
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		reader := readerOf(t, db, "users").With(wtcache.In(tx))
		wantFirst := func(want string) {
			t.Helper()
			rows, err := reader.GetMany(context.Background(), 1, 2)
			if err != nil || rows[0].Value["name"] != want || rows[0].FromCache {
				t.Errorf("read %+v, error %v; want %s from the transaction", rows, err, want)
			}
		}
		wantFirst("Bob")
		exec(t, tx, "UPDATE users SET name = 'Ann' WHERE id = 1")
		wantFirst("Ann")
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}},
}

func readerOf(t *testing.T, db *sql.DB, entry string) *wtcache.Reader[Row] {
	t.Helper()
	reader, err := wtcache.ReaderOf[Row](db, entry)
	if err != nil {
		t.Fatal(err)
	}
	return reader
}

func isState(err error, code string) bool {
	refused := new(pgconn.PgError)
	return errors.As(err, &refused) && refused.Code == code
}
