package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// Types of keys as programs have them.
type (
	userID    int64
	slug      string
	shade     int // prints itself otherwise than it is stored
	rawUUID   [16]byte
	digest    []byte
	plainUUID [16]byte // does not implement driver.Valuer
)

func (s shade) String() string { return [...]string{"light", "dark"}[s%2] }

func (u rawUUID) String() string {
	h := hex.EncodeToString(u[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
func (u rawUUID) Value() (driver.Value, error) { return u.String(), nil }
func (u plainUUID) String() string             { return rawUUID(u).String() }

// kindTypes are the types of key columns, each in a table of its own, which is named after it.
var kindTypes = []string{"int2", "int4", "int8", "text", "varchar", "bool", "uuid", "bytea", "date", "timestamp", "timestamptz", "numeric", "inet", "char"}

func kindsSetup() shelfSetup {
	s := shelfSetup{rules: map[string]string{}}
	for _, typ := range kindTypes {
		column := typ
		if typ == "char" {
			column = "char(5)"
		}
		s.ddl += fmt.Sprintf("CREATE TABLE k_%s (k %s PRIMARY KEY, body text);\n", typ, column)
		s.rules[typ] = fmt.Sprintf("table: {S}.k_%s\nkey: \"{P}%s:{k}\"\n", typ, typ)
	}
	return s
}

func ptr[T any](v T) *T { return &v }

// A key may be given as whatever type the program has it in. What is read must be filled,
// and found by the next reader whatever type that one has: else each read costs a query.
func TestReaderKeysOfEachKind(t *testing.T) {
	h := newShelf(t, kindsSetup())
	const text = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	var id rawUUID
	if _, err := hex.Decode(id[:], []byte(strings.ReplaceAll(text, "-", ""))); err != nil {
		t.Fatal(err)
	}
	when := time.Date(2024, 2, 29, 23, 59, 1, 120_000_000, time.UTC)
	east := when.In(time.FixedZone("east", 5*3600+1800))
	for _, c := range []struct {
		typ    string
		stored any // as an argument of INSERT
		given  []any
	}{
		{"int2", 7, []any{7, int8(7), int16(7), int32(7), int64(7), uint(7), uint8(7), uint16(7), uint32(7), uint64(7), "7", slug("7"), userID(7), ptr(7), ptr(userID(7)), sql.NullInt64{Int64: 7, Valid: true}, pgtype.Int2{Int16: 7, Valid: true}}},
		{"int2", -7, []any{-7, int8(-7), "-7"}},
		{"int4", 1, []any{shade(1), ptr(shade(1)), sql.Null[shade]{V: 1, Valid: true}}},
		{"int8", int64(math.MaxInt64), []any{int64(math.MaxInt64), uint64(math.MaxInt64), big.NewInt(math.MaxInt64)}},
		{"int8", int64(math.MinInt64), []any{int64(math.MinInt64)}},
		{"text", "ann", []any{"ann", slug("ann"), []byte("ann"), ptr("ann"), ptr(slug("ann")), sql.NullString{String: "ann", Valid: true}, pgtype.Text{String: "ann", Valid: true}, &sql.NullString{String: "ann", Valid: true}}},
		{"text", "", []any{"", slug(""), ptr("")}},
		{"text", "a:b{c}%20 \\\"'\n\x01é", []any{"a:b{c}%20 \\\"'\n\x01é"}},
		{"text", "NULL", []any{"NULL"}},
		{"varchar", "x", []any{"x", slug("x")}},
		{"bool", true, []any{true, ptr(true), "true", sql.NullBool{Bool: true, Valid: true}}},
		{"bool", false, []any{false}},
		{"uuid", text, []any{text, id, &id, plainUUID(id), pgtype.UUID{Bytes: id, Valid: true}, &pgtype.UUID{Bytes: id, Valid: true}}},
		{"bytea", []byte("\x00\xffab"), []any{[]byte("\x00\xffab"), digest("\x00\xffab"), `\x00ff6162`}},
		{"bytea", []byte{}, []any{[]byte{}}},
		{"date", when, []any{when, &when, sql.NullTime{Time: when, Valid: true}, pgtype.Date{Time: when.Truncate(24 * time.Hour), Valid: true}, "2024-02-29"}},
		{"timestamp", when, []any{when, &when, pgtype.Timestamp{Time: when, Valid: true}}},
		{"timestamptz", when, []any{when, east, &east, pgtype.Timestamptz{Time: east, Valid: true}, sql.NullTime{Time: east, Valid: true}}},
		{"timestamptz", time.Date(1999, 1, 2, 3, 4, 5, 0, time.UTC), []any{time.Date(1999, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(1999, 1, 2, 3, 4, 5, 999, time.UTC)}},
		{"numeric", "12.50", []any{"12.50"}},
		{"inet", "10.0.0.1", []any{netip.MustParseAddr("10.0.0.1"), "10.0.0.1"}},
	} {
		table := "k_" + c.typ
		r := readerOf[struct{ Body string }](t, h.db, table)
		h.must("INSERT INTO "+table+" VALUES ($1, 'here')", c.stored)
		first := seen(t, r, c.given[0])
		if !first.Found || first.Value.Body != "here" {
			t.Errorf("%s: %T %v is not found", c.typ, c.given[0], c.given[0])
		}
		for _, key := range c.given {
			row, err := r.Row(context.Background(), key)
			if err != nil || !row.FromCache || row.Value.Body != "here" {
				t.Errorf("%s: %T %v gave %+v, %v; want the row that was filled under %v", c.typ, key, key, row, err, c.given[0])
			}
			many, err := r.GetMany(context.Background(), key)
			if err != nil || !many[0].FromCache || many[0].Value.Body != "here" {
				t.Errorf("%s: GetMany of %T %v gave %+v, %v", c.typ, key, key, many, err)
			}
		}
		// The writer has to make the very key that readers do.
		h.exec("UPDATE "+table+" SET body = 'written' WHERE k = $1", c.stored)
		if row := seen(t, r, c.given[0]); !row.FromCache || row.Value.Body != "written" {
			t.Errorf("%s: after a write %v gives %+v", c.typ, c.given[0], row)
		}
	}
}

// A value that is NULL, in whatever type, is an error that says so: not a panic, not a text
// that the server cannot read, and not the row of an empty key.
func TestReaderKeysThatAreNull(t *testing.T) {
	h := newShelf(t, kindsSetup())
	h.must("INSERT INTO k_text VALUES ('', 'empty'), ('<nil>', 'nil')")
	var (
		noInt  *int
		noUUID *rawUUID
		noTime *time.Time
		noBig  *big.Int
		noText *string
		noNull *sql.NullString
		noDate *pgtype.Date
	)
	for _, c := range []struct {
		typ string
		key any
	}{
		{"int8", nil}, {"int8", noInt}, {"int8", noBig}, {"int8", sql.NullInt64{}}, {"int8", pgtype.Int8{}}, {"int8", ptr(noInt)},
		{"text", nil}, {"text", noText}, {"text", noNull}, {"text", sql.NullString{}}, {"text", pgtype.Text{}}, {"text", noBig}, {"text", []byte(nil)},
		{"uuid", noUUID}, {"uuid", pgtype.UUID{}}, {"uuid", &pgtype.UUID{}}, {"uuid", sql.Null[string]{}},
		{"date", noDate}, {"date", pgtype.Date{}}, {"timestamptz", noTime}, {"timestamptz", sql.NullTime{}},
		{"bytea", []byte(nil)}, {"bytea", digest(nil)},
	} {
		func() {
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("%s: the key %T %v panics: %v", c.typ, c.key, c.key, p)
				}
			}()
			row, err := readerOf[struct{ Body string }](t, h.db, "k_"+c.typ).Row(context.Background(), c.key)
			if err == nil || !strings.Contains(err.Error(), "NULL in the key") {
				t.Errorf("%s: the key %T %v gave %+v, %v", c.typ, c.key, c.key, row, err)
			}
		}()
	}
}

// A text that Postgres takes for a value and prints otherwise finds its row, for writers
// would not find what was stored under it: nothing is.
func TestReaderKeysInAnotherSpelling(t *testing.T) {
	h := newShelf(t, kindsSetup())
	for _, c := range []struct{ typ, stored, given string }{
		{"int8", "42", "042"}, {"int8", "43", " 43"}, {"int8", "44", "+44"}, {"int8", "0", "-0"},
		{"uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"},
		{"uuid", "6ba7b811-9dad-11d1-80b4-00c04fd430c8", "{6ba7b8119dad11d180b400c04fd430c8}"},
		{"bool", "true", "yes"}, {"numeric", "1.00", "1"}, {"numeric", "2", "2.0"},
		{"date", "2024-02-29", "29 Feb 2024"}, {"timestamptz", "2024-02-29T00:00:00Z", "2024-02-29 00:00:00+00"},
		{"bytea", `\x6162`, "ab"}, {"inet", "10.0.0.1", "10.0.0.1/32"}, {"char", "ab", "ab   "},
	} {
		h.must("INSERT INTO k_"+c.typ+" VALUES ($1, 'here')", c.stored)
		r := readerOf[struct{ Body string }](t, h.db, "k_"+c.typ)
		for range 2 {
			row, err := r.Row(context.Background(), c.given)
			if err != nil || row.Value.Body != "here" || row.FromCache {
				t.Errorf("%s: %q gave %+v, %v", c.typ, c.given, row, err)
			}
		}
		if h.there(c.typ + ":" + c.given) {
			t.Errorf("%s: an entry is stored under the text %q, where no writer finds it", c.typ, c.given)
		}
		// The lease was given back: it is in nobody's way.
		if n, err := h.rdb.Exists(context.Background(), "{"+h.prefix+c.typ+":"+c.given+"}:wt").Result(); err != nil || n != 0 {
			t.Errorf("%s: the lease of %q is still there (%v)", c.typ, c.given, err)
		}
	}
	if e := h.stats().Redis.FillRefusals; e != 0 {
		t.Errorf("%d fills were refused", e)
	}
}

// What Postgres does not take for a value of the column is its error, in one reading and in
// one of many, and the reader goes on afterwards.
func TestReaderKeysThatTheServerRefuses(t *testing.T) {
	h := newShelf(t, kindsSetup())
	h.must("INSERT INTO k_int4 VALUES (1, 'one'); INSERT INTO k_text VALUES ('a', 'a')")
	for _, c := range []struct {
		typ   string
		key   any
		state string
	}{
		{"int4", "abc", "22P02"}, {"int4", uint64(math.MaxUint64), "22003"}, {"int4", "", "22P02"},
		{"uuid", "no", "22P02"}, {"text", "a\x00b", "22021"}, {"text", "\xff", "22021"}, {"date", "2024-02-30", "22008"},
	} {
		r := readerOf[struct{ Body string }](t, h.db, "k_"+c.typ)
		if _, err := r.Row(context.Background(), c.key); sqlState(err) != c.state {
			t.Errorf("%s: %q gave %v, want the state %s", c.typ, c.key, err, c.state)
		}
		if _, err := r.GetMany(context.Background(), c.key, c.key); sqlState(err) != c.state {
			t.Errorf("%s: GetMany of %q gave %v, want the state %s", c.typ, c.key, err, c.state)
		}
	}
	if row := seen(t, readerOf[struct{ Body string }](t, h.db, "k_int4"), 1); row.Value.Body != "one" {
		t.Errorf("afterwards: %+v", row)
	}
}
