package wtcachetest

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wtcache/wtcache/rules"
)

// question is a text that the driver's reader sends for an entry.
type question struct {
	table *rules.Table
	entry *rules.BoundEntry
	many  bool // keys: rules.Table.ReadMany; else it is rules.Table.Read
}

// questions are all texts of the driver's reader.
func questions(set *rules.Set) map[string]question {
	all := map[string]question{}
	for _, t := range set.Tables {
		for i, e := range t.Entries {
			all[t.Read(i)] = question{table: t, entry: e}
			all[t.ReadMany(i)] = question{table: t, entry: e, many: true}
		}
	}
	return all
}

// keys gives the texts of the keys that are asked for, each in the order of the template's
// columns.
func (q question) keys(args []driver.NamedValue) ([][]string, error) {
	var keys [][]string
	for column, arg := range args {
		text, ok := arg.Value.(string)
		texts := []string{text}
		if ok && q.many {
			texts, ok = arrayTexts(text)
		}
		if keys == nil {
			keys = make([][]string, len(texts))
		}
		if !ok || len(texts) != len(keys) || len(args) != len(q.entry.Key.Columns()) {
			return nil, fmt.Errorf("wtcachetest: the driver's reader asks by %v, argument %d, what wtcachetest does not know", arg.Value, column+1)
		}
		for i, text := range texts {
			keys[i] = append(keys[i], text)
		}
	}
	return keys, nil
}

// arrayTexts reads what rules.ArrayLiteral has written.
func arrayTexts(literal string) (texts []string, ok bool) {
	rest, ok := strings.CutPrefix(literal, "{")
	for ok && strings.HasPrefix(rest, `"`) {
		var text strings.Builder
		i := 1
		for ; i < len(rest) && rest[i] != '"'; i++ {
			if rest[i] == '\\' {
				i++
			}
			if i < len(rest) {
				text.WriteByte(rest[i])
			}
		}
		texts, rest = append(texts, text.String()), rest[min(i+1, len(rest)):]
		rest = strings.TrimPrefix(rest, ",")
	}
	return texts, ok && rest == "}"
}

// render gives the key that a reader of these texts looks for.
func (q question) render(texts []string) string {
	key, _ := q.entry.Key.Render(func(column string) (string, bool) {
		return texts[slices.Index(q.entry.Key.Columns(), column)], true
	})
	return key
}

// read answers the driver's reader from what the test says of the table, and from what
// the transaction that it reads in has written.
func (c *conn) read(q question, args []driver.NamedValue) (driver.Rows, error) {
	keys, err := q.keys(args)
	if err != nil {
		c.cache.lines.fail(err)
		return nil, err
	}
	if len(keys) == 1 && slices.Contains(keys[0], nobody) {
		return &answer{}, nil // Cache.answers wants to know whether Redis is asked first
	}
	t := c.cache.model.table(q.table.Name)
	o := operation{read: make([]string, len(keys))}
	for i, texts := range keys {
		o.read[i] = q.render(texts)
	}
	o.verb = "read " + enumerated(o.read) + " from " + t.name.String()
	if c.open {
		o.verb += " in the transaction"
	}
	content, known := c.content(t)
	if !known {
		err = fmt.Errorf("wtcachetest: %s is read from %s, since it is not in the cache or the reader goes past it, and the test does not say what the table holds; say it before by cache.Rows(%q, …)",
			enumerated(o.read), t.name, t.name.Table)
		c.cache.lines.fail(err)
		return nil, err
	}
	found, err := c.cache.readKeys(t, q, keys, content)
	if refused := new(pgconn.PgError); errors.As(err, &refused) {
		c.cache.log.failed(o.verb, err)
		return nil, err
	} else if err != nil {
		c.cache.lines.fail(err)
		return nil, err
	}
	c.cache.log.add(o)
	return found, nil
}

// readKeys gives the answer in the layout of rules.Table.Read or ReadMany.
func (c *Cache) readKeys(t *table, q question, keys [][]string, content []Row) (*answer, error) {
	found := &answer{}
	add := func(line []driver.Value) {
		found.columns = make([]string, len(line))
		found.rows, found.hidden = append(found.rows, line), append(found.hidden, nil)
	}
	for i, texts := range keys {
		rows, printed, err := t.having(q, texts, content)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			cells, err := c.readRow(t, q, row)
			switch {
			case err != nil:
				return nil, err
			case q.many:
				cells = append(append([]driver.Value{strconv.Itoa(i + 1)}, cells...), "false")
			}
			add(cells)
		}
		if q.many && len(rows) == 0 {
			line := make([]driver.Value, 1+len(texts)+4)
			line[0] = strconv.Itoa(i + 1)
			line[len(line)-2] = "false"
			line[len(line)-1] = strconv.FormatBool(printed && !t.def.RowSecurity)
			add(line)
		}
	}
	return found, nil
}

// having gives the rows that have a key. printed says whether its texts are those that
// Postgres prints for the values.
func (t *table) having(q question, texts []string, content []Row) (rows []Row, printed bool, err error) {
	printed = true
	wanted := make([]string, len(texts))
	for i, name := range q.entry.Key.Columns() {
		if wanted[i], err = t.column(name).input(texts[i]); err != nil {
			return nil, false, err
		}
		printed = printed && wanted[i] == texts[i]
	}
	for _, row := range content {
		has := true
		for i, name := range q.entry.Key.Columns() {
			v, known := row[name]
			if !known {
				return nil, false, fmt.Errorf("wtcachetest: a row that the test gave %s by Rows has no %s, which is part of a key", t.name, name)
			}
			text, ok, err := t.column(name).textOf(v)
			if err != nil {
				return nil, false, fmt.Errorf("wtcachetest: a row that the test gave %s by Rows: %w", t.name, err)
			}
			has = has && ok && text == wanted[i]
		}
		if has {
			rows = append(rows, row)
		}
	}
	return rows, printed, nil
}

// input gives a text as Postgres prints it when it has read it as a value of the column.
func (c *column) input(text string) (string, error) {
	name := c.typ.plain().name
	printed, _, err := c.textOf(text)
	if name == "uuid" {
		printed = uuidText(text)
	}
	if err != nil || printed == "" && text != "" {
		return "", &pgconn.PgError{Severity: "ERROR", Code: "22P02", Message: fmt.Sprintf("invalid input syntax for type %s: %q", name, text)}
	}
	return printed, nil
}

// uuidText spells a UUID as Postgres does, "" where the text is none.
func uuidText(text string) string {
	digits := strings.ToLower(strings.ReplaceAll(strings.Trim(text, "{}"), "-", ""))
	if len(digits) != 32 {
		return ""
	}
	text = strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
	if !canonicalUUID.MatchString(text) {
		return ""
	}
	return text
}

// readRow gives the columns of rules.Table.Read.
func (c *Cache) readRow(t *table, q question, row Row) ([]driver.Value, error) {
	var cells []driver.Value
	for _, name := range q.entry.Key.Columns() {
		text, _, err := t.column(name).textOf(row[name])
		if err != nil {
			return nil, err
		}
		cells = append(cells, text)
	}
	payload, missing, err := object(t, q.entry, row)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("entry %q stores %s, which is not there", q.entry.Key, strings.Join(missing, ", "))
	}
	storable := false
	if err == nil {
		storable, err = holds(c.whens, q.table, q.entry, row)
	}
	if err != nil {
		return nil, fmt.Errorf("wtcachetest: a row that the test gave %s by Rows: %w", t.name, err)
	}
	return append(cells, payload, strconv.FormatBool(storable), "false"), nil
}
