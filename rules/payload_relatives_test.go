package rules

import (
	"fmt"
	"strings"
	"testing"
)

// Children may keep their columns in another order, with dropped ones between: a payload
// that is read by position holds another column's value.
func TestCaptureThroughRelatives(t *testing.T) {
	d := newDatabase(t, `
CREATE TABLE parted (id int, region text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE straight PARTITION OF parted FOR VALUES IN ('a');
CREATE TABLE odd (gone int, note text, region text NOT NULL, gone2 text, id int NOT NULL, PRIMARY KEY (id, region));
ALTER TABLE odd DROP gone; ALTER TABLE odd DROP gone2; ALTER TABLE parted ATTACH PARTITION odd FOR VALUES IN ('b');
CREATE TABLE base (gone int, id int PRIMARY KEY, region text, note text); ALTER TABLE base DROP gone;
CREATE TABLE child (extra int DEFAULT 1, PRIMARY KEY (id)) INHERITS (base);
CREATE VIEW shown AS SELECT note, id, region FROM base WHERE note <> 'hidden';
CREATE VIEW again AS SELECT id AS nr, region, note, id FROM shown`)
	set := d.mustBind("table: \"@.parted\"\nkey: \"p:{id}:{region}\"\nwhen: note <> ''", "table: \"@.base\"\nkey: \"b:{id}\"\nwhen: note <> ''\nvia: [\"@.again\", \"@.shown\"]")
	parted, base := set.Tables[0], set.Tables[1]
	s := d.open()
	for _, c := range []struct {
		table     *Table
		statement string
		ref       string
		view      bool
		id        string
		region    string
		note      string
	}{
		{parted, "INSERT INTO parted VALUES (1, 'a', 'n1'), (2, 'b', 'n1')", "parted", false, "1", "a", "n1"},
		{parted, "UPDATE parted AS x SET note = 'n2' WHERE id = 2", "x", false, "2", "b", "n2"},
		{parted, "UPDATE parted SET region = 'b', note = 'n3' WHERE id = 1", "parted", false, "1", "b", "n3"},
		{parted, "UPDATE parted SET region = 'a' WHERE id = 2", "parted", false, "2", "a", "n2"},
		{parted, "UPDATE odd SET note = 'n4' WHERE id = 1", "odd", false, "1", "b", "n4"},
		{parted, "INSERT INTO parted VALUES (1, 'b', 'n5') ON CONFLICT (id, region) DO UPDATE SET note = EXCLUDED.note", "parted", false, "1", "b", "n5"},
		{parted, "DELETE FROM parted WHERE region = 'b'", "parted", false, "1", "b", "n5"},
		{base, "INSERT INTO child (id, region, note) VALUES (1, 'a', 'n1')", "child", false, "1", "a", "n1"},
		{base, "UPDATE base SET note = 'n2'", "base", false, "1", "a", "n2"},
		{base, "UPDATE again AS base SET note = 'n3'", "base", true, "1", "a", "n3"},
		{base, "INSERT INTO shown VALUES ('n1', 2, 'b')", "shown", true, "2", "b", "n1"},
		{base, "DELETE FROM again WHERE nr = 2", "again", true, "2", "b", "n1"},
	} {
		row := s.must(c.statement + " RETURNING " + strings.Join(c.table.Capture(c.ref, c.view, true), ", "))[0]
		want := fmt.Sprintf(`{"id":%s,"region":"%s","note":"%s"}`, c.id, c.region, c.note)
		payload := row[len(row)-1]
		if *row[2] != c.id || payload == nil || *payload != want {
			t.Errorf("%s: captured %s, want %s", c.statement, show(row[2:]), want)
		}
		if (row[1] == nil) != c.view {
			t.Errorf("%s: tableoid %s", c.statement, show(row[1:2]))
			continue
		}
		if c.view {
			continue
		}
		var oid uint32
		if _, err := fmt.Sscan(*row[1], &oid); err != nil || set.TableByOID(oid) != c.table {
			t.Errorf("%s: tableoid %s is not the rule's", c.statement, *row[1])
		}
	}
}
