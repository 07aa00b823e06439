package wtcache

import (
	"database/sql/driver"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// pinnedKeys are the keys that a statement can touch, as far as they follow from
// its constants and parameters: one row of values, parallel to the table's key
// columns, for each row that it names.
type pinnedKeys struct {
	table *rules.Table
	stmt  *parser.Statement
	rows  [][]parser.Value
}

// add appends a row, or gives nil where a column's value is not a parameter or a constant.
func (p *pinnedKeys) add(value func(column string) (parser.Value, bool)) *pinnedKeys {
	row := make([]parser.Value, len(p.table.KeyColumns))
	for i, k := range p.table.KeyColumns {
		v, ok := value(k.Name)
		switch v.Kind {
		case parser.ValueParam, parser.ValueInteger, parser.ValueString:
		default:
			ok = false
		}
		// A parameter's other place may decide its type: `VALUES ($1::int, $1)` stores 7 as a text for "007".
		if !ok || !castKeepsText(v.Cast, k.Canon) || v.Kind == parser.ValueParam && slices.Contains(p.stmt.Repeated, v.Param) {
			return nil
		}
		row[i] = v
	}
	p.rows = append(p.rows, row)
	return p
}

// castKeepsText says whether a value keeps its canonical text through a cast.
func castKeepsText(cast string, canon rules.Canon) bool {
	switch cast {
	case "":
		return true
	case "int2", "int4", "int8", "smallint", "integer", "bigint", "int":
		return canon == rules.CanonInteger
	case "uuid":
		return canon == rules.CanonUUID
	case "text":
		return canon == rules.CanonText
	}
	return false
}

// resolve gives the keys for the arguments of one execution. ok is false where
// the text that Postgres has for a value is not certain.
func (p *pinnedKeys) resolve(args []driver.NamedValue) (keys []string, ok bool) {
	texts := make([]string, len(p.table.KeyColumns))
	values := make([]*string, len(texts))
	for _, row := range p.rows {
		for i, v := range row {
			if texts[i], ok = pinnedText(v, p.table.KeyColumns[i], args, p.stmt.Kind == parser.KindInsert); !ok {
				return nil, false
			}
			values[i] = &texts[i]
		}
		entries, shared := p.table.Keys(values)
		for _, key := range append(entries, shared...) {
			if key != "" {
				keys = append(keys, key)
			}
		}
	}
	return keys, true
}

func pinnedText(v parser.Value, column rules.KeyColumn, args []driver.NamedValue, insert bool) (string, bool) {
	switch v.Kind {
	case parser.ValueInteger:
		if column.Canon == rules.CanonText && !canonicalInteger(v.Text) {
			return "", false // 0099999999999 is stored without its zeros, also as a text
		}
		return canonicalText(v.Text, column, insert)
	case parser.ValueString:
		return canonicalText(v.Text, column, insert)
	}
	if v.Param < 1 || v.Param > len(args) {
		return "", false
	}
	text, ok := argumentText(args[v.Param-1].Value, column.Canon)
	if !ok {
		return "", false
	}
	return canonicalText(text, column, insert)
}

// argumentText gives the text of the Go values whose text in Postgres is certain.
// Anything else (a Valuer, a pointer, a float) is left to RETURNING.
func argumentText(v any, canon rules.Canon) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), canon == rules.CanonInteger
	case int:
		return strconv.Itoa(v), canon == rules.CanonInteger
	case int32:
		return strconv.FormatInt(int64(v), 10), canon == rules.CanonInteger
	case int16:
		return strconv.FormatInt(int64(v), 10), canon == rules.CanonInteger
	case uint32:
		return strconv.FormatUint(uint64(v), 10), canon == rules.CanonInteger
	}
	return "", false
}

var canonicalUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func canonicalInteger(s string) bool {
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && strconv.FormatInt(n, 10) == s
}

// canonicalText says whether s is how Postgres itself prints the value in a column.
func canonicalText(s string, column rules.KeyColumn, insert bool) (string, bool) {
	switch column.Canon {
	case rules.CanonInteger:
		return s, canonicalInteger(s)
	case rules.CanonUUID:
		return s, canonicalUUID.MatchString(s)
	case rules.CanonText:
		// varchar(n) cuts trailing blanks off silently where they are too many.
		return s, !insert || column.MaxLen == 0 || utf8.RuneCountInString(s) <= column.MaxLen
	}
	return "", false
}
