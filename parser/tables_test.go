package parser

import (
	"slices"
	"strings"
	"testing"
)

// What a test's schema text says must be what the rules are held against: a column or a
// unique index that is lost here makes a right rule look wrong, or a wrong one right.
func TestParseDefinitions(t *testing.T) {
	d, err := ParseDefinitions(`
SET search_path = public;
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE DOMAIN email AS varchar(80);
CREATE TABLE orgs (id serial PRIMARY KEY);
CREATE TABLE IF NOT EXISTS shop.users (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name varchar(40) NOT NULL DEFAULT 'nobody',
	mail email, tags text[], feeling mood, low text GENERATED ALWAYS AS (lower(name)) STORED,
	org_id int REFERENCES orgs ON DELETE CASCADE, old numeric(10,2),
	UNIQUE (name, org_id) DEFERRABLE
);
CREATE TABLE IF NOT EXISTS shop.users (id int);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON shop.users FOR EACH ROW EXECUTE FUNCTION f();
CREATE UNIQUE INDEX users_mail ON shop.users (mail) WHERE mail IS NOT NULL;
CREATE UNIQUE INDEX users_low ON shop.users (lower(name));
ALTER TABLE ONLY shop.users ADD COLUMN at timestamptz DEFAULT now(), DROP COLUMN old;
ALTER TABLE shop.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE shop.users RENAME COLUMN tags TO labels;
INSERT INTO orgs VALUES (1);
CREATE TABLE parts (id int) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (9);
CREATE TABLE gone (id int); DROP TABLE gone;`)
	if err != nil {
		t.Fatal(err)
	}
	users := d.Table(Relation{Name: "users"})
	var columns []string
	for _, c := range users.Columns {
		columns = append(columns, c.Name+" "+c.Type.Name)
	}
	want := []string{"id int8", "name varchar", "mail email", "labels text", "feeling mood", "low text", "org_id int4", "at timestamptz"}
	if !slices.Equal(columns, want) {
		t.Errorf("columns are %v, want %v", columns, want)
	}
	if c := users.Column("name"); c.Type.Mod != 40 || c.Default == nil || c.Default.Text != "nobody" {
		t.Errorf("name lost its length or default: %+v", c)
	}
	for _, name := range []string{"id", "low", "at"} {
		if c := users.Column(name); c.Default == nil || c.Default.Kind != ValueOther {
			t.Errorf("%s does not say that its value comes from an expression: %+v", name, c)
		}
	}
	if !users.Column("labels").Type.Array || !users.Column("low").Generated || users.Column("mail").Default != nil {
		t.Errorf("an array, a generated column or a missing default was not seen: %+v", users.Columns)
	}
	if len(users.Unique) != 4 || !users.Unique[0].Primary || !users.Unique[1].Deferrable || !users.Unique[2].Partial || users.Unique[3].Columns != nil {
		t.Errorf("unique constraints are %+v", users.Unique)
	}
	if f := users.Foreign; len(f) != 1 || !f[0].OnDelete || f[0].OnUpdate || f[0].References.Name != "orgs" {
		t.Errorf("foreign keys are %+v", f)
	}
	const beforeUpdateRow = 1 | 2 | 16
	if g := users.Triggers; len(g) != 1 || g[0].Type != beforeUpdateRow {
		t.Errorf("triggers are %+v", g)
	}
	if !users.RowSecurity || d.Table(Relation{Name: "gone"}) != nil || d.Table(Relation{Name: "users", Schema: "other"}) != nil {
		t.Error("row security, a dropped table or a schema was not followed")
	}
	if p := d.Table(Relation{Name: "parts_1"}).Parents; len(p) != 1 || !d.Table(p[0]).Partitioned {
		t.Errorf("the partition's parents are %v", p)
	}
	if len(d.Enums) != 1 || d.Domains[Relation{Name: "email"}].Mod != 80 {
		t.Errorf("types are %v and %v", d.Enums, d.Domains)
	}
}

func TestParseDefinitionsNamesWhatDoesNotParse(t *testing.T) {
	_, err := ParseDefinitions("CREATE TABLE a (id int);\nCREATE TABEL b (id int);")
	if err == nil || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), "TABEL") {
		t.Errorf("the error does not lead to the statement: %v", err)
	}
}

// The values that a text shows are what a stand-in for Postgres may go by: one too many
// would make a test pass on a payload that the server would not have made.
func TestShownValues(t *testing.T) {
	for sql, want := range map[string]string{
		"UPDATE t SET a = $2, b = 'x', c = c + 1, d = NULL, e[1] = $1, (f, g) = ($3, $4) WHERE id = 1 RETURNING id, t.a AS z, lower(b), *": "a=2 b=x d= |id,a,,*",
		"INSERT INTO t (id, a) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET a = EXCLUDED.a, b = t.b RETURNING id":                         "a=excluded.a |id",
		"DELETE FROM t USING u WHERE u.id = t.id RETURNING u.id, t.id, id, *":                                                              "|,id,,",
	} {
		s := Parse(sql)[0]
		var got strings.Builder
		for _, p := range s.Sets {
			got.WriteString(p.Column + "=")
			switch p.Value.Kind {
			case ValueParam:
				got.WriteString(string(rune('0' + p.Value.Param)))
			case ValueExcluded:
				got.WriteString("excluded.")
			}
			got.WriteString(p.Value.Text + " ")
		}
		if got.WriteString("|" + strings.Join(s.Returned, ",")); got.String() != want {
			t.Errorf("%s\n shows %q, want %q", sql, got.String(), want)
		}
	}
}
