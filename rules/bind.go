package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Set is the rules bound to a catalogue: all that a session needs to know to plan
// statements. It is immutable and safe for concurrent use.
type Set struct {
	Tables []*Table
	// Relatives are not among Names, though a write of them may change ruled rows.
	Relatives []Relative

	catalog *Catalog
	head    string // the start of the catalogue queries, with the rules' names
	names   []string
	targets map[uint32]staticTarget
	ruled   map[uint32]*Table // by the OID of the table or of a child
}

// Names gives the bare names, as stored and sorted, of all relations whose appearance
// in a text can mean a write of a ruled table: the tables, their partitions and
// inheritance children, their ancestors, and every view or rewrite rule over any of
// these.
func (s *Set) Names() []string { return slices.Clone(s.names) }

// TableByOID gives the ruled table that the rows of a relation belong to: the relation's
// own, or that of its nearest ruled ancestor. It gives nil where there is none.
func (s *Set) TableByOID(oid uint32) *Table { return s.ruled[oid] }

// Table is a rule bound to its table. It is immutable and safe for concurrent use.
type Table struct {
	Rule *Rule
	Name Name
	OID  uint32

	KeyColumns []KeyColumn   // the distinct columns of all templates
	Entries    []*BoundEntry // as in the rule
	Shared     []*Template

	// Enabled triggers for INSERT, UPDATE or DELETE on the table or on any child.
	// AFTER triggers (constraint triggers count, foreign keys do not) may change a row
	// later in the transaction than it was captured: its payload is then not certain.
	BeforeTriggers, AfterTriggers bool

	Barrier string // the key of the rule's barrier

	// Rows is about how many rows the table had, with its children, when the catalogue was read; 0 where nobody
	// had counted them.
	Rows int64

	relation *relation
	types    map[string]string // SQL type by column
	views    map[uint32]bool   // relations of `via` through which rows can be captured
}

// KeyColumn is a column of a key template.
type KeyColumn struct {
	Name   string
	Type   string // SQL name of the type (of a domain: of its base), with schema, without modifiers
	Canon  Canon
	MaxLen int // in characters: n of varchar(n); 0 for none
	// Generated says that the column follows other columns, so that it can change
	// without being assigned.
	Generated bool

	base   string // pg_type.typname of Type
	equals string // the operator that compares it
	class  Class
}

// Canon says for which Go values the text is certain to be Postgres' text of the column.
type Canon uint8

const (
	// CanonNone: the text of a value is known only once Postgres has stored it.
	CanonNone Canon = iota
	// CanonInteger: int2, int4, int8; a Go integer's decimal digits.
	CanonInteger
	// CanonUUID: a UUID in lower case with dashes.
	CanonUUID
	// CanonText: text or varchar of a deterministic collation; the string itself, if it
	// is no longer than MaxLen.
	CanonText
)

// BoundEntry is an entry whose payload is known as SQL.
type BoundEntry struct {
	*Entry
	Index  int    // in Table.Entries
	Schema string // 8 hex digits: fingerprint of the payload's columns, types, condition and format
	// Negative is for how long "no such row" may be cached: the rule's NegativeTTL, or 0
	// where a later INSERT might not find the entry.
	Negative time.Duration

	projection *projection
}

// PayloadNames gives the names in the payload, in its order.
func (e *BoundEntry) PayloadNames() []string {
	names := make([]string, len(e.projection.columns))
	for i, c := range e.projection.columns {
		names[i] = c.name
	}
	return names
}

// PayloadType gives the type of a name in the payload: the pg_type.typname of its column,
// such as "int8" or "_text", of a domain that of the type below. ok is false where the
// payload has no such name.
func (e *BoundEntry) PayloadType(name string) (typname string, ok bool) {
	for _, c := range e.projection.columns {
		if c.name == name {
			return c.typname, true
		}
	}
	return "", false
}

// Keys renders the keys of a row. values are the texts of KeyColumns, nil for NULL.
// entries is parallel to Table.Entries, "" where the row has no such entry; shared holds
// only the keys that the row has.
func (t *Table) Keys(values []*string) (entries []string, shared []string) {
	value := func(column string) (string, bool) {
		for i := range t.KeyColumns {
			if t.KeyColumns[i].Name == column && i < len(values) && values[i] != nil {
				return *values[i], true
			}
		}
		return "", false
	}
	entries = make([]string, len(t.Entries))
	for i, e := range t.Entries {
		if key, ok := e.Key.Render(value); ok {
			entries[i] = key
		}
	}
	for _, template := range t.Shared {
		if key, ok := template.Render(value); ok {
			shared = append(shared, key)
		}
	}
	return entries, shared
}

// OneRow says whether a row of the table, or one of each of its children, is all that has a certain value in
// each of the columns that has reports.
func (t *Table) OneRow(has func(column string) bool) bool {
	return slices.ContainsFunc(t.relation.indexes, func(i uniqueIndex) bool {
		return i.fault() == "" && len(i.Cols) > 0 && !slices.ContainsFunc(i.Cols, func(c string) bool { return !has(c) })
	})
}

// ColumnType gives the SQL type of a column for a cast that changes nothing: with schema,
// without modifiers, and of a domain the type that it is over, since a cast to the
// modifiers of varchar(5) cuts what an assignment refuses.
func (t *Table) ColumnType(name string) (sqlType string, ok bool) {
	sqlType, ok = t.types[name]
	return sqlType, ok
}

// VersionSQL is the expression of one text, for ParseVersion: where in the WAL the
// transaction stands, and which one it is. It needs no privilege. The transaction is the
// top-level one also inside a savepoint; the functions of these names are in every server
// from 10 on, and are the same as the pg_…xact… ones of 13.
//
// It is worked out for each row: a statement may have waited for a row's lock, and whoever had
// it stands before that row and behind those that the statement wrote first.
const VersionSQL = "pg_catalog.concat_ws(':', pg_catalog.concat(" +
	"pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8), pg_catalog.pg_current_wal_insert_lsn()), " +
	"pg_catalog.txid_current_if_assigned())"

// Capture gives the expressions for RETURNING, each a text, for a target that is called
// ref in its statement (already quoted). In order: the version and the transaction
// (VersionSQL), the tableoid (NULL for a view), a key column each; then, with payloads,
// the payload of each entry of strategy write, NULL where the entry has to be absent.
func (t *Table) Capture(ref string, view, payloads bool) []string {
	exprs := []string{VersionSQL, ref + ".tableoid::pg_catalog.text"}
	if view {
		exprs[1] = "NULL::pg_catalog.text"
	}
	exprs = append(exprs, t.keyTexts(ref)...)
	if !payloads {
		return exprs
	}
	for _, e := range t.Entries {
		if e.Strategy == StrategyWrite {
			exprs = append(exprs, e.projection.sql(ref))
		}
	}
	return exprs
}

func (t *Table) keyTexts(ref string) []string {
	texts := make([]string, len(t.KeyColumns))
	for i, k := range t.KeyColumns {
		texts[i] = keyText(k, ref)
	}
	return texts
}

// OldKeys gives one expression: the row's key texts as a JSON array.
func (t *Table) OldKeys(ref string) string {
	return "pg_catalog.json_build_array(" + strings.Join(t.keyTexts(ref), ", ") + ")::pg_catalog.text"
}

func (t *Table) keyColumn(name string) *KeyColumn {
	for i := range t.KeyColumns {
		if t.KeyColumns[i].Name == name {
			return &t.KeyColumns[i]
		}
	}
	return nil
}

// ParseVersion reads the text of VersionSQL: 8 hex digits of timeline, a WAL position as
// Postgres prints it and, after a colon, the transaction. The version is 24 lower-case hex
// digits that order as text; xid is 0 where the transaction has no number yet.
func ParseVersion(captured string) (version string, xid uint64, err error) {
	if len(captured) > 8 {
		place, number, numbered := strings.Cut(captured[8:], ":")
		high, low, ok := strings.Cut(place, "/")
		timeline, err1 := parseHex(captured[:8])
		h, err2 := parseHex(high)
		l, err3 := parseHex(low)
		if numbered {
			xid, err = strconv.ParseUint(number, 10, 63)
		}
		if ok && err1 == nil && err2 == nil && err3 == nil && err == nil {
			var hex [24]byte
			for i, n := range [3]uint64{timeline, h, l} {
				putHex8(hex[8*i:], n)
			}
			return string(hex[:]), xid, nil
		}
	}
	return "", 0, fmt.Errorf("parse version %q: want 8 hex digits of timeline, a WAL position and a transaction, such as 0000000116/B374D848:731", captured)
}

func putHex8(to []byte, n uint64) {
	for i := 7; i >= 0; i-- {
		to[i] = "0123456789abcdef"[n&15]
		n >>= 4
	}
}

func parseHex(s string) (uint64, error) {
	if len(s) > 0 && (s[0] == '+' || s[0] == '-') {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 16, 32)
}

func fingerprint8(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:4])
}
