package rules

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func (s *server) session(set *Set) *Session {
	s.d.t.Helper()
	n := 0
	x, err := set.Session(context.Background(), func(ctx context.Context, text string) ([][]*string, error) {
		n++
		return s.query(ctx, text)
	}, true)
	if err != nil || n > 1 {
		s.d.t.Fatalf("%d queries, %v", n, err)
	}
	return x
}

const treeDDL = `
CREATE TABLE top (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE mid PARTITION OF top FOR VALUES IN ('a', 'b') PARTITION BY LIST (region);
CREATE TABLE leaf_a PARTITION OF mid FOR VALUES IN ('a');
CREATE TABLE leaf_b PARTITION OF mid FOR VALUES IN ('b');
CREATE TABLE sibling PARTITION OF top FOR VALUES IN ('c');
CREATE VIEW over_mid AS SELECT * FROM mid;
CREATE VIEW over_leaf AS SELECT * FROM leaf_a;
CREATE VIEW over_sibling AS SELECT * FROM sibling;
CREATE VIEW over_view AS SELECT id, region, n FROM over_mid WHERE n > 0;
CREATE TABLE log (n int);
CREATE RULE log_writes AS ON INSERT TO log DO ALSO UPDATE mid SET n = 1;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM mid;
CREATE TABLE other (id int PRIMARY KEY)`

func describe(target Target, ok bool) string {
	if !ok {
		return "not ruled"
	}
	text := target.Table.Name.Table
	for _, o := range target.Others {
		text += "+" + o.Name.Table
	}
	if target.Precise {
		text += " precise"
	}
	if target.View {
		text += " view"
	}
	if target.Reason != "" {
		text += ": " + target.Reason
	}
	if target.RowSecurity {
		text += " (pinned only)"
	}
	if target.MissingSelect {
		text += " (" + target.Grant + ")"
	}
	return text
}

// A statement on a relative of a ruled table that is taken for something else leaves the
// old row in the cache.
func TestLookupKnowsEveryRelative(t *testing.T) {
	d := newDatabase(t, treeDDL)
	mid := "table: \"@.mid\"\nkey: \"m:{id}:{region}\"\nvia: [\"@.over_view\"]"
	leaf := "table: \"@.leaf_a\"\nkey: \"l:{id}:{region}\""
	for _, c := range []struct {
		files []string
		names string
		want  map[string]string
	}{
		{[]string{mid}, "leaf_a leaf_b log mid over_leaf over_mid over_view top", map[string]string{
			"mid": "mid precise", "leaf_a": "mid precise", "leaf_b": "mid precise",
			"top": "mid: ancestor of a ruled table", "sibling": "not ruled", "over_sibling": "not ruled", "other": "not ruled", "counted": "not ruled",
			"over_view": "mid precise view", "over_mid": "mid: view not named in via", "over_leaf": "mid: view not named in via",
			"log": "mid: rewrite rule", "pg_class": "not ruled", "nowhere": "not ruled",
		}},
		{[]string{mid, leaf}, "leaf_a leaf_b log mid over_leaf over_mid over_view top", map[string]string{
			"mid": "mid+leaf_a precise", "leaf_a": "leaf_a+mid precise", "leaf_b": "mid precise", "over_view": "mid+leaf_a precise view",
			"top": "leaf_a+mid: ancestor of a ruled table",
		}},
	} {
		set := d.mustBind(c.files...)
		if got := strings.Join(set.Names(), " "); got != c.names {
			t.Errorf("names %s, want %s", got, c.names)
		}
		x := d.open().session(set)
		for name, want := range c.want {
			for _, schema := range []string{"", d.schema} {
				if got := describe(x.Lookup(schema, name)); sameOthers(got) != sameOthers(want) {
					t.Errorf("%s.%s: %s, want %s", schema, name, got, want)
				}
			}
		}
		if x.Stale {
			t.Error("stale at once")
		}
	}
}

// sameOthers makes descriptions comparable where the order of equals is left open: for
// an ancestor of two ruled tables none comes first.
func sameOthers(text string) string {
	head, rest, found := strings.Cut(text, ": ancestor")
	if !found {
		return text
	}
	tables := strings.Split(head, "+")
	slices.Sort(tables)
	return strings.Join(tables, "+") + rest
}

// A captured tableoid that is mapped to the wrong rule stores a row under another's key.
func TestTableByOID(t *testing.T) {
	d := newDatabase(t, treeDDL)
	set := d.mustBind("table: \"@.mid\"\nkey: \"m:{id}:{region}\"", "table: \"@.leaf_a\"\nkey: \"l:{id}:{region}\"")
	s := d.open()
	for name, want := range map[string]string{"mid": "mid", "leaf_a": "leaf_a", "leaf_b": "mid", "top": "", "sibling": "", "over_mid": ""} {
		var oid uint32
		if _, err := fmt.Sscan(*s.must("SELECT '@." + name + "'::regclass::oid::text")[0][0], &oid); err != nil {
			t.Fatal(err)
		}
		got := ""
		if table := set.TableByOID(oid); table != nil {
			got = table.Name.Table
		}
		if got != want {
			t.Errorf("%s belongs to %q, want %q", name, got, want)
		}
	}
}

// A bare name means what the session's search_path says: another schema's table of the
// same name must not touch the rule's keys, and the ruled one must be found.
func TestLookupFollowsSearchPath(t *testing.T) {
	d := newDatabase(t, treeDDL)
	elsewhere := newDatabase(t, "CREATE TABLE other (id int PRIMARY KEY)")
	set := d.mustBind("table: \"@.other\"\nkey: \"o:{id}\"")
	temporary := d.open()
	before := temporary.session(set)
	temporary.exec("CREATE TEMP TABLE other (id int)")
	for _, c := range []struct {
		name string
		s    *server
		want string
	}{
		{"its own", d.open(), "other precise"},
		{"both", d.open("SET search_path = @, " + elsewhere.schema), "other precise"},
		{"another first", d.open("SET search_path = " + elsewhere.schema + ", @"), "not ruled"},
		{"none", d.open("SET search_path = ''"), "not ruled"},
		{"temporary", temporary, "not ruled"},
	} {
		x := c.s.session(set)
		if got := describe(x.Lookup("", "other")); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if got := describe(x.Lookup(d.schema, "other")); got != "other precise" {
			t.Errorf("%s, with schema: %s", c.name, got)
		}
		if got := describe(x.Lookup(elsewhere.schema, "other")); got != "not ruled" {
			t.Errorf("%s, the other schema's: %s", c.name, got)
		}
		if same := x.Key() == before.Key(); same != (c.want == "other precise") {
			t.Errorf("%s: plans are shared: %v", c.name, same)
		}
		if x.Stale {
			t.Errorf("%s: stale", c.name)
		}
	}
}

// A splice that the role may not run would fail the user's write; one under a policy
// would change which rows it touches.
func TestLookupKnowsRights(t *testing.T) {
	d := newDatabase(t, `
CREATE TABLE plain (id int PRIMARY KEY, n int);
CREATE TABLE secured (id int PRIMARY KEY, n int);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON secured USING (true);
CREATE VIEW shown AS SELECT * FROM plain;
CREATE VIEW over_secured AS SELECT * FROM secured;
CREATE TABLE ruled (id int PRIMARY KEY);
CREATE RULE r AS ON DELETE TO ruled DO INSTEAD NOTHING;
CREATE TABLE parted (id int) PARTITION BY LIST (id);
CREATE FOREIGN DATA WRAPPER "@";
CREATE SERVER "@" FOREIGN DATA WRAPPER "@";
CREATE TABLE near PARTITION OF parted FOR VALUES IN (1);
CREATE ROLE "@";
GRANT USAGE ON SCHEMA @ TO "@";
GRANT INSERT, UPDATE, DELETE ON plain, shown, secured, over_secured TO "@"`)
	t.Cleanup(func() { d.exec(`DROP FOREIGN DATA WRAPPER "@" CASCADE; DROP OWNED BY "@"; DROP ROLE "@"`) })
	files := []string{"table: \"@.plain\"\nkey: \"p:{id}\"\nvia: [\"@.shown\"]", "table: \"@.secured\"\nkey: \"s:{id}\"\nvia: [\"@.over_secured\"]",
		"table: \"@.ruled\"\nkey: \"r:{id}\"", "table: \"@.parted\"\nkey: \"f:{id}\"\nstrategy: invalidate"}
	check := func(s *server, want map[string]string) {
		t.Helper()
		x := s.session(d.mustBind(files...))
		for name, w := range want {
			if got := describe(x.Lookup("", name)); got != d.here(w) {
				t.Errorf("%s: %s, want %s", name, got, d.here(w))
			}
		}
	}
	app := []string{`SET ROLE "@"`}
	check(d.open(), map[string]string{
		"plain": "plain precise", "secured": "secured precise", "shown": "plain precise view",
		"over_secured": "secured view: row-level security (pinned only)", "ruled": "ruled: rewrite rule",
		"parted": "parted precise", "near": "parted precise",
	})
	check(d.open(app...), map[string]string{
		"plain":   `plain: no SELECT privilege (GRANT SELECT ON @.plain TO @)`,
		"shown":   `plain view: no SELECT privilege (GRANT SELECT ON @.shown TO @)`,
		"secured": `secured: no SELECT privilege (GRANT SELECT ON @.secured TO @)`,
		"parted":  `parted: no SELECT privilege`,
	})
	d.exec(`GRANT SELECT ON plain, shown, secured TO "@"; CREATE FOREIGN TABLE far PARTITION OF parted FOR VALUES IN (2) SERVER "@"`)
	check(d.open(app...), map[string]string{
		"plain": "plain precise", "shown": "plain precise view", "secured": "secured: row-level security (pinned only)",
		"parted": "parted: foreign table", "far": "parted: foreign table", "near": "parted: no SELECT privilege",
	})
	d.exec(`REVOKE SELECT ON plain FROM "@"; ALTER VIEW shown SET (security_invoker = on)`)
	check(d.open(app...), map[string]string{"shown": "plain view: no SELECT privilege (GRANT SELECT ON @.plain TO @)"})
}

// A plan made for yesterday's catalogue captures the wrong columns: a new connection has
// to notice the change, whatever it is, and must not see one where there is none.
func TestSessionNoticesChangedCatalogue(t *testing.T) {
	d := newDatabase(t, `CREATE TYPE mood AS ENUM ('a', 'b'); CREATE DOMAIN short AS varchar(5);
CREATE TABLE u (id int PRIMARY KEY, m mood, s short, n numeric(10, 2)); CREATE VIEW v AS SELECT id, m, s FROM u;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TABLE unrelated (id int)`)
	file := "table: \"@.u\"\nkey: \"u:{id}\"\ncolumns: [id, m, s]\nvia: [\"@.v\"]"
	set := d.mustBind(file)
	for _, kind := range sessionKinds[:10] {
		if d.open(kind.settings...).session(set).Stale {
			t.Errorf("stale under the settings %q", kind.name)
		}
	}
	s := d.open()
	for _, c := range []struct {
		change string
		stale  bool
	}{
		{"INSERT INTO u VALUES (1)", false},
		{"ANALYZE u", false},
		{"ALTER TABLE unrelated ADD x int", false},
		{"CREATE VIEW unrelated_view AS SELECT * FROM unrelated", false},
		{"ALTER TABLE u ADD x int", true},
		{"ALTER TABLE u DROP x", true},
		{"ALTER TABLE u ALTER n TYPE numeric(10, 3)", true},
		{"ALTER TYPE mood RENAME VALUE 'b' TO 'c'", true},
		{"ALTER TABLE u RENAME s TO s2", true},
		{"CREATE TRIGGER t AFTER INSERT ON u EXECUTE FUNCTION nothing()", true},
		{"ALTER TABLE u DISABLE TRIGGER t", true},
		{"CREATE VIEW w AS SELECT * FROM v", true},
		{"CREATE OR REPLACE VIEW w AS SELECT id + 1 AS id, m, s FROM v", true},
		{"CREATE TABLE child () INHERITS (u)", true},
		{"ALTER TABLE u ENABLE ROW LEVEL SECURITY", true},
		{"CREATE RULE r AS ON DELETE TO u DO INSTEAD NOTHING", true},
		{"ALTER TABLE u DROP CONSTRAINT u_pkey", true},
		{"ALTER TABLE u ADD PRIMARY KEY (id) DEFERRABLE", true},
		{"ALTER TABLE u RENAME TO u2; ALTER TABLE u2 RENAME TO u", false},
		{"ALTER TABLE u RENAME TO u2", true},
	} {
		loaded := d.rules(file)
		before, err := LoadCatalog(context.Background(), s.query, loaded)
		if err != nil {
			t.Fatal(err)
		}
		set := newSet(loaded, before, nil)
		set.names = []string{"u"}
		d.exec(c.change)
		if got := s.session(set).Stale; got != c.stale {
			t.Errorf("after %q: stale %v", c.change, got)
		}
		after, err := LoadCatalog(context.Background(), s.query, loaded)
		if err != nil || (after.digest != before.digest) != c.stale {
			t.Errorf("after %q: fingerprint disagrees (%v)", c.change, err)
		}
	}
}

// A cut or garbled answer must be an error, not a session without rights.
func TestSessionRefusesGarbledAnswers(t *testing.T) {
	d := newDatabase(t, "CREATE TABLE u (id int PRIMARY KEY)")
	set := d.mustBind("table: \"@.u\"\nkey: \"u:{id}\"")
	word := "rel"
	for _, row := range [][]*string{{}, {&word}, {&word, nil, &word}, {&word, &word, &word}} {
		if _, err := set.Session(context.Background(), func(context.Context, string) ([][]*string, error) { return [][]*string{row}, nil }, true); err == nil {
			t.Errorf("no error for %v", row)
		}
	}
}
