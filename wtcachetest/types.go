package wtcachetest

import (
	"strings"

	"github.com/wtcache/wtcache/parser"
)

// sqlType is a type as the catalogue has it.
type sqlType struct {
	oid      uint32
	schema   string
	name     string
	kind     string // pg_type.typtype
	category string
	base     *sqlType // of a domain, an array, a range
	mod      int
	modified bool // of a domain: the type below has modifiers
}

// builtins are the types of pg_catalog with their numbers and categories, as in
// https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat
var builtins = map[string]sqlType{
	"bool": {oid: 16, category: "B"}, "bytea": {oid: 17, category: "U"}, "char": {oid: 18, category: "Z"},
	"name": {oid: 19, category: "S"}, "int8": {oid: 20, category: "N"}, "int2": {oid: 21, category: "N"},
	"int4": {oid: 23, category: "N"}, "text": {oid: 25, category: "S"}, "oid": {oid: 26, category: "N"},
	"json": {oid: 114, category: "U"}, "xml": {oid: 142, category: "U"}, "point": {oid: 600, category: "G"},
	"lseg": {oid: 601, category: "G"}, "path": {oid: 602, category: "G"}, "box": {oid: 603, category: "G"},
	"polygon": {oid: 604, category: "G"}, "line": {oid: 628, category: "G"}, "cidr": {oid: 650, category: "I"},
	"float4": {oid: 700, category: "N"}, "float8": {oid: 701, category: "N"}, "circle": {oid: 718, category: "G"},
	"macaddr8": {oid: 774, category: "U"}, "money": {oid: 790, category: "N"}, "macaddr": {oid: 829, category: "U"},
	"inet": {oid: 869, category: "I"}, "bpchar": {oid: 1042, category: "S"}, "varchar": {oid: 1043, category: "S"},
	"date": {oid: 1082, category: "D"}, "time": {oid: 1083, category: "D"}, "timestamp": {oid: 1114, category: "D"},
	"timestamptz": {oid: 1184, category: "D"}, "interval": {oid: 1186, category: "T"}, "timetz": {oid: 1266, category: "D"},
	"bit": {oid: 1560, category: "V"}, "varbit": {oid: 1562, category: "V"}, "numeric": {oid: 1700, category: "N"},
	"uuid": {oid: 2950, category: "U"}, "pg_lsn": {oid: 3220, category: "U"}, "tsvector": {oid: 3614, category: "U"},
	"jsonb": {oid: 3802, category: "U"}, "xid8": {oid: 5069, category: "U"},
	"int4range": {oid: 3904, category: "R", kind: "r"}, "numrange": {oid: 3906, category: "R", kind: "r"},
	"tsrange": {oid: 3908, category: "R", kind: "r"}, "tstzrange": {oid: 3910, category: "R", kind: "r"},
	"daterange": {oid: 3912, category: "R", kind: "r"}, "int8range": {oid: 3926, category: "R", kind: "r"},
}

var rangeOf = map[string]string{
	"int4range": "int4", "numrange": "numeric", "tsrange": "timestamp", "tstzrange": "timestamptz", "daterange": "date", "int8range": "int8",
}

// firstUserOID is where Postgres begins to number what is not its own.
const firstUserOID = 16384

// types makes the types that the tables use, one object each.
type types struct {
	defs  *parser.Definitions
	known map[string]*sqlType
	next  uint32
}

func newTypes(defs *parser.Definitions) *types {
	return &types{defs: defs, known: map[string]*sqlType{}, next: 100_000}
}

// of gives the type of a definition, and of what it is made of.
func (ts *types) of(d parser.TypeDef) *sqlType {
	t := ts.named(d.Schema, d.Name)
	if !d.Array {
		return t
	}
	return ts.keep("_"+d.Name, func(a *sqlType) {
		*a = sqlType{schema: t.schema, name: "_" + t.name, kind: "b", category: "A", base: t, mod: -1}
	})
}

func (ts *types) named(schema, name string) *sqlType {
	return ts.keep(strings.TrimPrefix(schema+"."+name, "."), func(t *sqlType) {
		*t = sqlType{schema: "public", name: name, kind: "b", category: "U", mod: -1}
		if schema != "" {
			t.schema = schema
		}
		relation := parser.Relation{Schema: schema, Name: name}
		below, isDomain := ts.defs.Domains[relation]
		builtin, isBuiltin := builtins[name]
		switch {
		case isDomain:
			t.kind, t.base = "d", ts.of(below)
			t.category, t.mod = t.base.category, typmod(below)
			t.modified = below.Modified || t.base.modified
		case ts.isEnum(relation):
			t.kind, t.category = "e", "E"
		case isBuiltin && schema == "":
			t.schema, t.oid, t.category = "pg_catalog", builtin.oid, builtin.category
			if builtin.kind == "r" {
				t.kind, t.base = "r", ts.named("", rangeOf[name])
			}
		case name == "citext":
			t.category = "S"
		}
	})
}

func (ts *types) isEnum(r parser.Relation) bool {
	for _, e := range ts.defs.Enums {
		if e == r {
			return true
		}
	}
	return false
}

// keep gives the type that is known by a name, made by fill where it is new.
func (ts *types) keep(name string, fill func(*sqlType)) *sqlType {
	if t, ok := ts.known[name]; ok {
		return t
	}
	t := new(sqlType)
	ts.known[name] = t
	fill(t)
	if t.oid == 0 {
		ts.next++
		t.oid = ts.next
	}
	return t
}

// plain is the type below the domains.
func (t *sqlType) plain() *sqlType {
	for t.kind == "d" {
		t = t.base
	}
	return t
}

// typmod is pg_attribute.atttypmod, as far as the rules look at it.
func typmod(d parser.TypeDef) int {
	const header = 4
	if (d.Name == "varchar" || d.Name == "bpchar") && d.Mod > 0 {
		return d.Mod + header
	}
	return -1
}
