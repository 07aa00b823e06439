package rules

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const bindDDL = `
CREATE TABLE users (id bigint PRIMARY KEY, email text UNIQUE, org_id int, price float8, name text, deleted_at timestamptz,
	tags text[], length interval, cost money, nick varchar(8), late int UNIQUE DEFERRABLE, part int, low text, klass regclass, classes regclass[]);
CREATE UNIQUE INDEX users_part ON users (part) WHERE part > 0;
CREATE UNIQUE INDEX users_low ON users (lower(low));
CREATE TABLE orgs (id int PRIMARY KEY, name text);
CREATE TABLE keyless (id int, other int);
CREATE VIEW active AS SELECT * FROM users WHERE deleted_at IS NULL;
CREATE VIEW narrow AS SELECT id, email FROM users;
CREATE VIEW renamed AS SELECT id, email AS name, name AS email FROM users;
CREATE VIEW computed AS SELECT id, lower(email) AS email FROM users;
CREATE VIEW joined AS SELECT u.id, u.email FROM users u JOIN orgs o ON o.id = u.org_id;
CREATE VIEW of_orgs AS SELECT * FROM orgs WHERE id IN (SELECT org_id FROM users);
CREATE VIEW stacked AS SELECT id, email FROM active WHERE org_id = 1;
CREATE VIEW instead AS SELECT id, email FROM users;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER instead INSTEAD OF UPDATE ON instead FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM users;
CREATE SEQUENCE numbers;`

// A rule that cannot be kept has to be refused before the first write, with the place
// and what to write instead: otherwise it is found in production as stale entries.
func TestBindFindings(t *testing.T) {
	d := newDatabase(t, bindDDL)
	for _, c := range []struct {
		name, rule string
		want       []string // parts of the findings, in any order; none: the rule is fine
	}{
		{"fine", "table: \"@.users\"\nkey: \"u:{id}\"\nomit: [classes]", nil},
		{"missing table", "table: \"@.user\"\nkey: \"u:{id}\"", []string{"rule0.yaml:1:8: table @.user does not exist; did you mean @.users?"}},
		{"missing schema", "table: \"nowhere.orgs\"\nkey: \"u:{id}\"", []string{"table nowhere.orgs does not exist; did you mean ", "@.orgs"}},
		{"view", "table: \"@.active\"\nkey: \"u:{id}\"", []string{"@.active is a view; name its table"}},
		{"materialized view", "table: \"@.counted\"\nkey: \"u:{count}\"", []string{"@.counted is a materialized view"}},
		{"sequence", "table: \"@.numbers\"\nkey: \"u:{id}\"", []string{"@.numbers is a sequence"}},
		{"system table", "table: pg_catalog.pg_class\nkey: \"u:{oid}\"", []string{"pg_catalog.pg_class is a system table"}},
		{"columns", `
table: "@.users"
entries:
  - key: "u:{idd}"
    omit: [clases]
    rename: {emial: mail}
  - name: b
    key: "e:{email}"
    columns:
      - id
      - xmin
`, []string{
			`rule0.yaml:4:10: table @.users has no column "idd"; did you mean id?`,
			`rule0.yaml:5:12: table @.users has no column "clases"; did you mean classes or klass?`,
			`rule0.yaml:6:14: table @.users has no column "emial"; did you mean email?`,
			`rule0.yaml:11:9: table @.users has no column "xmin"; its columns are id, email,`,
		}},
		{"shared column", "table: \"@.orgs\"\nkey: \"o:{id}\"\ninvalidate: [\"x:{nme}\"]", []string{`rule0.yaml:3:14: table @.orgs has no column "nme"; did you mean name?`}},
		{"not unique", "table: \"@.users\"\nkey: \"u:{org_id}\"\ncolumns: [id]", []string{"rule0.yaml:2:6: key \"u:{org_id}\" does not hold every column of a unique constraint",
			"users_email_key (email) or users_pkey (id), or set strategy: invalidate"}},
		{"not unique, invalidate", "table: \"@.users\"\nkey: \"u:{org_id}\"\ncolumns: [id]\nstrategy: invalidate", nil},
		{"more than unique", "table: \"@.users\"\nkey: \"u:{org_id}:{id}\"\ncolumns: [id]", nil},
		{"no unique index", "table: \"@.keyless\"\nkey: \"u:{id}\"", []string{"the table has no usable one: create a unique index"}},
		{"deferrable", "table: \"@.users\"\nkey: \"u:{late}\"\ncolumns: [id]", []string{"users_late_key is deferrable: two rows may hold a key at once"}},
		{"partial", "table: \"@.users\"\nkey: \"u:{part}\"\ncolumns: [id]", []string{"users_part is partial"}},
		{"expression", "table: \"@.users\"\nkey: \"u:{low}\"\ncolumns: [id]", []string{"does not hold every column of a unique constraint"}},
		{"float key", "table: \"@.users\"\nkey: \"u:{id}:{price}\"\ncolumns: [id]", []string{`column "price" (float8) cannot be a part of a key: its text depends on extra_float_digits`}},
		{"array key", "table: \"@.users\"\nkey: \"u:{id}:{tags}\"\ncolumns: [id]", []string{`column "tags" (_text) cannot be a part of a key`}},
		{"interval key", "table: \"@.users\"\nkey: \"u:{id}:{length}\"\ncolumns: [id]", []string{"equal intervals have several texts"}},
		{"money key", "table: \"@.users\"\nkey: \"u:{id}:{cost}\"\ncolumns: [id]", []string{"lc_monetary"}},
		{"search_path", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id, classes, klass]", []string{`rule0.yaml:3:15: column "classes" (_regclass) has a text that depends on search_path; leave it out`}},
		{"names clash", "table: \"@.orgs\"\nkey: \"u:{id}\"\nrename: {name: id}", []string{`columns "id" and "name" would both be called "id" in the payload`}},
		{"nothing left", "table: \"@.orgs\"\nkey: \"u:{id}\"\nomit: [id, name]", []string{"no column is left for the payload"}},
		{"when: column", "table: \"@.orgs\"\nkey: \"u:{id}\"\nwhen: nam = 'x'", []string{"rule0.yaml:3:7: when is no condition over the row: ", `column "nam" does not exist`}},
		{"when: syntax", "table: \"@.orgs\"\nkey: \"u:{id}\"\nwhen: name =", []string{"rule0.yaml:3:7: when is no condition over the row: ", "syntax error"}},
		{"when: type", "table: \"@.orgs\"\nkey: \"u:{id}\"\nwhen: id + 1", []string{"must be type boolean"}},
		{"when: aggregate", "table: \"@.orgs\"\nkey: \"u:{id}\"\nwhen: count(*) > 1", []string{"aggregate functions are not allowed"}},
		{"when: another table", "table: \"@.orgs\"\nkey: \"u:{id}\"\nwhen: id IN (SELECT org_id FROM users)", []string{"when cannot be used: it reads a table"}},
		{"when: parameter", "table: \"@.orgs\"\nkey: \"u:{id}\"\nwhen: id = $1", []string{"it holds a parameter"}},
		{"when: two", "table: \"@.orgs\"\nkey: \"u:{id}\"\nwhen: true) OR (true", []string{"it closes a parenthesis that it did not open"}},
		{"when: open quote", "table: \"@.orgs\"\nkey: \"u:{id}\"\nwhen: name = 'x", []string{"is not closed"}},
		{"overlap", "table: \"@.users\"\nentries:\n  - {name: a, key: \"u:{email}\", columns: [id]}\n  - {name: b, key: \"u:x{id}\", columns: [id]}", []string{
			`rule0.yaml:4:20: key "u:x{id}" can be the same as "u:{email}" (entry "a" of @.users, rule0.yaml:3:20)`}},
		{"overlap of names beside", "table: \"@.users\"\nentries:\n  - {name: a, key: \"u:{email}\", columns: [id]}\n  - {name: b, key: \"{{u:x{id}}}\", columns: [id]}", []string{
			`rule0.yaml:4:20: key "{{u:x{id}}}" can need the same names beside it as "u:{email}" (entry "a" of @.users, rule0.yaml:3:20)`}},
		{"no overlap of classes", "table: \"@.users\"\nentries:\n  - {name: a, key: \"u:{id}\", columns: [id]}\n  - {name: b, key: \"u:x{email}\", columns: [id]}", nil},
		{"shared key is an entry's", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id]\ninvalidate: [\"u:{email}\"]", []string{`rule0.yaml:4:14: key "u:{email}" can be the same as "u:{id}"`}},
		{"via", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id, email]\nvia: [\"@.active\", \"@.narrow\", \"@.stacked\"]", nil},
		{"via missing", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id]\nvia: [\"@.activ\"]", []string{"rule0.yaml:4:7: view @.activ does not exist; did you mean @.active?"}},
		{"via a table", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id]\nvia: [\"@.orgs\"]", []string{"@.orgs is no view"}},
		{"via joined", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id]\nvia: [\"@.joined\"]", []string{"view @.joined is not automatically updatable"}},
		{"via instead", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id]\nvia: [\"@.instead\"]", []string{"view @.instead is not automatically updatable"}},
		{"via of another table", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id]\nvia: [\"@.of_orgs\"]", []string{"view @.of_orgs does not write the rows of @.users"}},
		{"via unrelated", "table: \"@.keyless\"\nkey: \"u:{id}\"\nstrategy: invalidate\nvia: [\"@.active\"]", []string{"view @.active is not over @.keyless"}},
		{"via lacks a column", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id, name, org_id]\nvia: [\"@.narrow\"]", []string{"does not show org_id, name of @.users under the same name"}},
		{"via swaps columns", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id, email]\nvia: [\"@.renamed\"]", []string{"does not show email of @.users"}},
		{"via computes", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id, email]\nvia: [\"@.computed\"]", []string{"does not show email of @.users"}},
		{"via lacks a column of when", "table: \"@.users\"\nkey: \"u:{id}\"\ncolumns: [id]\nwhen: deleted_at IS NULL\nvia: [\"@.narrow\"]", []string{"does not show deleted_at"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &database{t, d.db, d.schema}
			set, errs, _ := d.bind(c.rule)
			got := joined(errs)
			for _, want := range c.want {
				if !strings.Contains(got, d.here(want)) {
					t.Errorf("findings:\n%s\nwant %s", got, d.here(want))
				}
			}
			if (len(c.want) == 0) != (len(errs) == 0) || (set == nil) != (len(errs) > 0) {
				t.Errorf("set %v, findings:\n%s", set != nil, got)
			}
		})
	}
}

// Findings that come one at a time cost a deployment each.
func TestBindGivesAllFindings(t *testing.T) {
	d := newDatabase(t, bindDDL)
	_, errs, _ := d.bind(
		"table: \"@.usrs\"\nkey: \"a:{id}\"",
		"table: \"@.orgs\"\nkey: \"b:{nme}\"\nwhen: nothere\nvia: [\"@.missing\"]",
		"table: \"@.users\"\nentries:\n  - {name: x, key: \"c:{id}\", when: \"missing > 1\", columns: [id]}\n  - {name: y, key: \"d:{id}\", when: \"id > 1\", columns: [id]}\n  - {name: z, key: \"e:{id}\", when: \"gone\", columns: [id]}")
	got := joined(errs)
	for _, want := range []string{"rule0.yaml:1:", `no column "nme"`, `"nothere" does not exist`, "view @.missing does not exist", `"missing" does not exist`, `"gone" does not exist`} {
		if !strings.Contains(got, d.here(want)) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "id > 1") || strings.Contains(got, "rule2.yaml:4") {
		t.Errorf("a sound entry is blamed:\n%s", got)
	}
}

// Each query of LoadCatalog is a round trip of every process at its start.
func TestLoadCatalogTakesFewQueries(t *testing.T) {
	// Names that no other test has: a trigger that writes a table of the same name, wherever it is, is asked about.
	d := newDatabase(t, `CREATE TABLE asked_for (id int PRIMARY KEY); CREATE TABLE asked_too (id int PRIMARY KEY, gone int);
CREATE VIEW asked_of AS SELECT * FROM asked_too WHERE gone IS NULL`)
	s := d.open()
	for _, c := range []struct {
		want  int
		files []string
	}{
		{0, nil},
		{2, []string{"table: \"@.asked_for\"\nkey: \"b:{id}\"", "table: \"@.asked_too\"\nkey: \"c:{id}\"\ncolumns: [id]"}},
		{4, []string{"table: \"@.asked_for\"\nkey: \"b:{id}\"\nwhen: id > 1", "table: \"@.asked_too\"\nkey: \"c:{id}\"\ncolumns: [id]\nwhen: id > 1\nvia: [\"@.asked_of\"]"}},
	} {
		n := 0
		var loaded []*Rule
		if len(c.files) > 0 {
			loaded = d.rules(c.files...)
		}
		_, err := LoadCatalog(context.Background(), func(ctx context.Context, text string) ([][]*string, error) {
			n++
			return s.query(ctx, text)
		}, loaded)
		if err != nil || n != c.want {
			t.Errorf("%d rules: %d queries, want %d (%v)", len(loaded), n, c.want, err)
		}
	}
}

// An AFTER trigger that is overlooked stores a row's image from before it.
func TestTriggersOfRelatives(t *testing.T) {
	d := newDatabase(t, treeDDL, `CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE plain (id int PRIMARY KEY REFERENCES other ON DELETE CASCADE)`)
	for _, c := range []struct {
		on, timing    string
		before, after bool
	}{
		{"top", "AFTER UPDATE", false, true}, // its partitions inherit it
		{"mid", "BEFORE INSERT", true, false},
		{"leaf_a", "AFTER DELETE", false, true},
		{"sibling", "AFTER DELETE", false, false},
		{"log", "AFTER INSERT", false, false},
	} {
		d.exec("CREATE TRIGGER x " + c.timing + " ON " + c.on + " FOR EACH ROW EXECUTE FUNCTION nothing()")
		table := d.mustBind("table: \"@.mid\"\nkey: \"m:{id}:{region}\"").Tables[0]
		if table.BeforeTriggers != c.before || table.AfterTriggers != c.after {
			t.Errorf("%s on %s: before %v, after %v", c.timing, c.on, table.BeforeTriggers, table.AfterTriggers)
		}
		d.exec("DROP TRIGGER x ON " + c.on)
	}
	if table := d.mustBind("table: \"@.plain\"\nkey: \"p:{id}\"").Tables[0]; table.BeforeTriggers || table.AfterTriggers {
		t.Error("a foreign key counts as a trigger")
	}
}

// A connection that breaks while the rules are checked is no fault of the rules.
func TestLoadCatalogReportsLostConnections(t *testing.T) {
	d := newDatabase(t, bindDDL)
	loaded := d.rules("table: \"@.orgs\"\nkey: \"b:{id}\"\nwhen: id > 1")
	for fails := range 3 {
		s, n := d.open(), 0
		_, err := LoadCatalog(context.Background(), func(ctx context.Context, text string) ([][]*string, error) {
			if n++; n > fails {
				return nil, context.DeadlineExceeded
			}
			return s.query(ctx, text)
		}, loaded)
		if err == nil || !strings.Contains(err.Error(), "deadline") {
			t.Errorf("query %d: %v", fails, err)
		}
	}
}

// Writes that the driver cannot see must be said at the start, or stale entries come as a
// surprise.
func TestBindWarnings(t *testing.T) {
	d := newDatabase(t, `
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE grand (id int PRIMARY KEY);
ALTER TABLE parents ADD grand int REFERENCES grand ON UPDATE CASCADE;
CREATE TABLE harmless (id int PRIMARY KEY);
CREATE TABLE watched (id int PRIMARY KEY, parent int REFERENCES parents ON DELETE CASCADE, h int REFERENCES harmless, at timestamptz);
CREATE TABLE log (n int);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE watched SET at = now(); RETURN NEW; END';
CREATE FUNCTION readonly() RETURNS int LANGUAGE sql AS 'SELECT count(*)::int FROM watched';
CREATE PROCEDURE sweep() LANGUAGE plpgsql AS 'BEGIN DELETE FROM Watched; END';
CREATE FUNCTION modern() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM watched; END;
CREATE TRIGGER on_log AFTER INSERT ON log EXECUTE FUNCTION touch();
CREATE TRIGGER off_log AFTER INSERT ON log EXECUTE FUNCTION touch();
ALTER TABLE log DISABLE TRIGGER off_log;
CREATE TRIGGER own AFTER UPDATE ON watched EXECUTE FUNCTION touch();
CREATE TRIGGER before BEFORE UPDATE ON watched EXECUTE FUNCTION touch();
CREATE RULE logged AS ON DELETE TO watched DO ALSO INSERT INTO log VALUES (1);
CREATE RULE back AS ON UPDATE TO log DO ALSO UPDATE watched SET at = now();
CREATE VIEW through AS SELECT * FROM watched;
ALTER TABLE watched ENABLE ROW LEVEL SECURITY`)
	set, errs, warnings := d.bind("table: \"@.watched\"\nkey: \"w:{id}\"\nwhen: at < now()")
	if len(errs) > 0 {
		t.Fatal(joined(errs))
	}
	got := joined(warnings)
	for _, want := range []string{
		"DELETE or UPDATE of @.parents may change rows of @.watched (foreign key watched_parent_fkey)",
		"DELETE or UPDATE of @.grand may change rows of @.watched (foreign key parents_grand_fkey)",
		"a trigger of @.log may write @.watched (function @.touch)",
		"function @.sweep may write @.watched",
		"function @.modern may write @.watched",
		"@.watched has AFTER triggers (own)",
		"@.watched has rewrite rules",
		"rewrite rules of @.log name @.watched",
		"@.watched may be written through @.through",
		"@.watched has row-level security",
		"when depends on more than the row (now)",
	} {
		if !strings.Contains(got, d.here(want)) {
			t.Errorf("no warning %s in\n%s", d.here(want), got)
		}
	}
	if strings.Contains(got, "harmless") || strings.Contains(got, "readonly") {
		t.Errorf("warned of what writes nothing:\n%s", got)
	}
	if table := set.Tables[0]; !table.AfterTriggers || !table.BeforeTriggers {
		t.Errorf("triggers %v %v", table.BeforeTriggers, table.AfterTriggers)
	}
	var relatives []string
	for _, r := range set.Relatives {
		relatives = append(relatives, fmt.Sprintln(r.Name, r.Delete, r.Columns, r.Trigger, r.Own))
	}
	slices.Sort(relatives)
	want := []string{
		"@.grand false [id] false false", "@.log false [] true false", "@.log false [] true true", "@.parents true [] false false",
		"@.through false [] true false", "@.through false [] true true", "@.watched false [] true false", "@.watched false [] true true",
	}
	if got := strings.Join(relatives, ""); got != d.here(strings.Join(want, "\n")+"\n") {
		t.Errorf("relatives\n%s", got)
	}
	set, _, warnings = d.bind("table: \"@.harmless\"\nkey: \"h:{id}\"")
	if len(warnings) > 0 || set.Tables[0].AfterTriggers || set.Tables[0].BeforeTriggers {
		t.Errorf("warnings for a plain table:\n%s", joined(warnings))
	}
}

// A function that is not known to write a table leaves its rows stale without a word: names that do not begin or end with a
// letter are written like others, and a quote in one is written twice.
func TestFunctionsThatWriteOddNames(t *testing.T) {
	d := newDatabase(t, `
CREATE TABLE "wow!" (id int PRIMARY KEY); CREATE TABLE "an ""x""" (id int PRIMARY KEY); CREATE TABLE wow (id int PRIMARY KEY);
CREATE FUNCTION first() RETURNS void LANGUAGE plpgsql AS 'BEGIN DELETE FROM "wow!"; END';
CREATE FUNCTION second() RETURNS void LANGUAGE plpgsql AS 'BEGIN DELETE FROM "an ""x"""; END';
CREATE FUNCTION third() RETURNS void LANGUAGE plpgsql AS 'BEGIN DELETE FROM wow_log; END';
CREATE TABLE log (n int);
CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE "wow!" SET id = 1; RETURN NULL; END';
CREATE TRIGGER fires AFTER INSERT ON log EXECUTE FUNCTION fired();`)
	set := d.mustBind("table: '@.\"wow!\"'\nkey: \"a:{id}\"", "table: '@.\"an \"\"x\"\"\"'\nkey: \"b:{id}\"", "table: \"@.wow\"\nkey: \"c:{id}\"")
	var found []string
	for _, f := range set.Functions() {
		found = append(found, f.Name.Table+" "+f.Table.Name.Table)
	}
	slices.Sort(found)
	// first may write wow, too: that "wow!" is another name is not known by its letters.
	if got, want := strings.Join(found, ", "), `first wow, first wow!, second an "x"`; got != want {
		t.Errorf("functions that write: %s; want %s", got, want)
	}
	if !slices.ContainsFunc(set.Relatives, func(r Relative) bool { return r.Trigger && r.Table.Name.Table == "wow!" }) {
		t.Error("the trigger of log is not known to write a table whose name ends with no letter")
	}
}
