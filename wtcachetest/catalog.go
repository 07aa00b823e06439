package wtcachetest

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// fact is a row of the catalogue as the rules read it.
type fact = map[string]any

// ask answers what package rules asks a server, recognised by a piece of each question.
// A question that is not known is an error, so that a new one does not go unanswered.
func (m *model) ask(_ context.Context, sql string) ([][]*string, error) {
	switch {
	case strings.Contains(sql, "UNION ALL SELECT 'recovery'"):
		return m.facts(), nil
	case strings.Contains(sql, "SELECT kind, id, body FROM ("):
		return m.session(strings.Contains(sql, "'digest' AS kind")), nil
	case strings.Contains(sql, "ruled AS ("):
		return m.blindSpots(), nil
	case strings.HasPrefix(sql, "WITH RECURSIVE spot("):
		return nil, nil
	case strings.HasPrefix(sql, "SELECT (SELECT 'ok' FROM ("):
		return nil, nil // what a `when` means no server is there to say
	case strings.HasPrefix(sql, "SELECT s.nspname"):
		return m.names(), nil
	}
	return nil, fmt.Errorf("wtcachetest: the driver asks the catalogue what wtcachetest does not know: %s", sql)
}

// digest stands for the state of the catalogue, which never changes.
const digest = "wtcachetest"

func texts(cells ...string) []*string {
	row := make([]*string, len(cells))
	for i := range cells {
		row[i] = &cells[i]
	}
	return row
}

func factRow(kind string, body fact) []*string {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // facts are strings, numbers and booleans
	}
	return texts(kind, string(text))
}

func (m *model) facts() [][]*string {
	var rows [][]*string
	for _, t := range m.tables {
		rows = append(rows, t.relation()...)
		if t.root == 0 {
			rows = append(rows, t.attributes()...)
			rows = append(rows, t.indexes()...)
		}
	}
	for _, typ := range m.types.known {
		rows = append(rows, typ.fact())
	}
	return append(rows, texts("digest", digest), texts("recovery", "false"))
}

func (t *table) relation() [][]*string {
	kind, root, how := "r", t.oid, "self"
	if t.def.Partitioned {
		kind = "p"
	}
	if t.root != 0 {
		root, how = t.root, "down"
	}
	rows := [][]*string{
		factRow("rel", fact{
			"oid": t.oid, "schema": t.name.Schema, "name": t.name.Table, "kind": kind, "persistence": "p",
			"rowSecurity": t.def.RowSecurity, "partition": t.root != 0, "invoker": false, "rules": t.def.Rules,
		}),
		factRow("reach", fact{"root": root, "oid": t.oid, "how": how}),
	}
	for _, g := range t.def.Triggers {
		rows = append(rows, factRow("trg", fact{"rel": t.oid, "name": g.Name, "type": g.Type}))
	}
	return rows
}

func (t *table) attributes() [][]*string {
	var rows [][]*string
	for i, c := range t.columns {
		generated := ""
		if c.generated {
			generated = "s"
		}
		rows = append(rows, factRow("att", fact{
			"rel": t.oid, "num": i + 1, "name": c.name, "type": c.typ.oid, "mod": c.mod, "generated": generated, "exact": true,
		}))
	}
	return rows
}

func (t *table) indexes() [][]*string {
	var rows [][]*string
	for i, u := range t.def.Unique {
		name := u.Name
		if name == "" {
			name = fmt.Sprintf("%s_key%d", t.name.Table, i+1)
		}
		rows = append(rows, factRow("idx", fact{
			"rel": t.oid, "name": name, "immediate": !u.Deferrable, "valid": true, "partial": u.Partial,
			"expr": len(u.Columns) == 0, "cols": u.Columns,
		}))
	}
	return rows
}

func (t *sqlType) fact() []*string {
	f := fact{
		"oid": t.oid, "schema": t.schema, "name": t.name, "kind": "b", "category": t.category, "base": 0, "mod": t.mod,
		"elem": 0, "equal": t.schema,
	}
	if t.kind != "" {
		f["kind"] = t.kind
	}
	switch {
	case t.base == nil:
	case t.kind == "d":
		f["base"] = t.base.oid
	case t.kind == "r":
		f["sub"] = t.base.oid
	default:
		f["elem"] = t.base.oid
	}
	return factRow("type", f)
}

// session says what a session makes of the tables: a bare name is the table of that name
// in whatever schema, public first, and the role may do all.
func (m *model) session(compare bool) [][]*string {
	var rows [][]*string
	if compare {
		rows = append(rows, texts("digest", "", digest))
	}
	bare := map[string]bool{}
	for _, public := range []bool{true, false} {
		for _, t := range m.tables {
			if (t.name.Schema == "public") == public && !bare[t.name.Table] {
				bare[t.name.Table] = true
				rows = append(rows, texts("name", t.name.Table, t.oidText()))
			}
		}
	}
	for _, t := range m.tables {
		secured := "0"
		if t.def.RowSecurity {
			secured = "1"
		}
		rows = append(rows, texts("rel", t.oidText(), secured+" 1 1 "+t.name.String()+" TO test"))
	}
	return rows
}

func (t *table) oidText() string { return strconv.FormatUint(uint64(t.oid), 10) }

func (m *model) blindSpots() [][]*string {
	var rows [][]*string
	for _, c := range m.cascades() {
		rows = append(rows, c.fact())
	}
	return rows
}

// cascade is a foreign key whose action changes rows of a ruled table, directly or through
// further tables.
type cascade struct {
	table    *table
	source   rules.Name
	onDelete bool
	columns  []string // whose UPDATE it acts on
}

func (m *model) cascades() []cascade {
	var all []cascade
	for _, t := range m.tables {
		if t.root == 0 {
			all = m.cascadesInto(all, t, t.def, map[*parser.TableDef]bool{})
		}
	}
	return all
}

func (m *model) cascadesInto(all []cascade, t *table, def *parser.TableDef, seen map[*parser.TableDef]bool) []cascade {
	if seen[def] {
		return all
	}
	seen[def] = true
	for _, f := range def.Foreign {
		if !f.OnDelete && !f.OnUpdate {
			continue
		}
		source := m.defs.Table(f.References)
		c := cascade{table: t, source: qualified(nameOf(f.References)), onDelete: f.OnDelete}
		if f.OnUpdate {
			c.columns = referenced(f, source)
		}
		all = append(all, c)
		if source != nil {
			all = m.cascadesInto(all, t, source, seen)
		}
	}
	return all
}

func (c cascade) fact() []*string {
	return factRow("blind", fact{
		"root": c.table.oid, "kind": "cascade", "schema": c.source.Schema, "name": c.source.Table, "detail": "of " + c.table.name.Table,
		"delete": c.onDelete, "columns": c.columns,
	})
}

// referenced gives the columns that a foreign key names, or the primary key that it means.
func referenced(f parser.ForeignDef, source *parser.TableDef) []string {
	if len(f.Columns) > 0 || source == nil {
		return f.Columns
	}
	for _, u := range source.Unique {
		if u.Primary {
			return u.Columns
		}
	}
	return nil
}

// names lists what a rule's mistyped name may have meant.
func (m *model) names() [][]*string {
	var rows [][]*string
	for _, def := range m.defs.Tables {
		name := qualified(nameOf(def.Name))
		rows = append(rows, texts(name.Schema, name.Table, "r"))
	}
	return rows
}

func nameOf(r parser.Relation) rules.Name { return rules.Name{Schema: r.Schema, Table: r.Name} }
