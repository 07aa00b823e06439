package blindspots_test

import (
	"context"
	"strings"
	"testing"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/blindspots"
)

const warn, info, fail = cachesync.Warning, cachesync.Info, cachesync.Error

// shopDDL is what each row of the table test starts from.
const shopDDL = `
CREATE TABLE users (id int PRIMARY KEY, name text, seen timestamptz);
CREATE TABLE log (n int);
`

const usersRule = "table: \"@.users\"\nkey: \"user:{id}\"\n"

// Each row is one blind spot, by which a user of the cache loses what `loses` says. A row that fails means that a team ships without
// having been told of it, or is told a wrong place.
func TestBlindSpots(t *testing.T) {
	t.Parallel()
	for name, c := range blindSpots {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t, "")
			if strings.Contains(c.ddl, "LANGUAGE other") {
				// A language that keeps its source and never runs it, in place of one that not every server has.
				d.exec(`CREATE LANGUAGE "@" HANDLER plpgsql_call_handler`)
				t.Cleanup(func() { _, _ = d.conn.Exec(context.Background(), d.here(`DROP LANGUAGE "@" CASCADE`)) })
				c.ddl = strings.Replace(c.ddl, "LANGUAGE other", `LANGUAGE "@"`, 1)
			}
			d.exec(shopDDL + c.ddl)
			rule := usersRule
			if c.rule != "" {
				rule = c.rule
			}
			dir := d.rules(rule)
			found := d.find(d.conn, dir, blindspots.Options{SchemaOnly: true})
			var hits []cachesync.Finding
			for _, f := range found {
				if f.Subject == c.subject && f.Object == d.here(c.object) {
					hits = append(hits, f)
				}
			}
			if len(hits) != 1 {
				t.Fatalf("%s is found %d times as %s of %s; a user loses: %s\n%s", name, len(hits), c.subject, d.here(c.object), c.loses, show(found))
			}
			f := hits[0]
			if f.Severity != c.severity || !strings.Contains(f.Problem, d.here(c.says)) || !strings.Contains(f.Loss, c.loses) || f.Where != dir+"/0.yaml:1:8" {
				t.Errorf("want %v at %s, saying %q and losing %q:\n%s", c.severity, dir, d.here(c.says), c.loses, show(hits))
			}
			for _, other := range found {
				if other.Severity > info && other != f && !c.more {
					t.Errorf("and a false alarm:\n%s", show([]cachesync.Finding{other}))
				}
			}
		})
	}
}

type spot struct {
	ddl, rule             string
	severity              cachesync.Severity
	subject, object, says string
	loses                 string // what a user loses, as the finding has to say
	more                  bool   // there are further warnings, of the same cause
}

const (
	stale  = "entries keep the row as it was before"
	coarse = "nothing stale is served"
)

const touchFn = `
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- UPDATE users, says the comment
  UPDATE users SET seen = now() WHERE id = 1;
  RETURN NULL;
END$$;`

var blindSpots = map[string]spot{
	"trigger elsewhere": {
		ddl:      touchFn + `CREATE TRIGGER on_log AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION touch()`,
		severity: warn, subject: "trigger", object: "trigger on_log on @.log", says: "function @.touch() writes @.users (line 4: UPDATE @.users)", loses: stale,
	},
	"deferred constraint trigger": {
		ddl:      touchFn + `CREATE CONSTRAINT TRIGGER late AFTER INSERT ON log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION touch()`,
		severity: warn, subject: "trigger", object: "trigger late on @.log", says: "runs at COMMIT", loses: stale,
	},
	"trigger through a helper function": {
		ddl: `CREATE FUNCTION helper() RETURNS void LANGUAGE sql AS 'DELETE FROM users WHERE id = 1';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM helper(); RETURN NULL; END$$;
CREATE TRIGGER on_log AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION touch()`,
		severity: warn, subject: "trigger", object: "trigger on_log on @.log", says: "it calls function @.helper(); line 1: DELETE @.users", loses: stale, more: true,
	},
	"own trigger through a helper function": {
		ddl: `CREATE FUNCTION helper() RETURNS void LANGUAGE sql AS 'UPDATE users SET seen = now() WHERE id = 2';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM helper(); RETURN NULL; END$$;
CREATE TRIGGER own AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION touch()`,
		severity: warn, subject: "trigger", object: "trigger own on @.users", says: "helper()", loses: stale, more: true,
	},
	"own trigger": {
		ddl:      touchFn + `CREATE TRIGGER own AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION touch()`,
		severity: warn, subject: "trigger", object: "trigger own on @.users", says: "at each write of it", loses: coarse,
	},
	"after trigger that writes elsewhere": {
		ddl: `CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO log SELECT count(*) FROM users; RETURN NULL; END$$;
CREATE TRIGGER note AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note()`,
		severity: info, subject: "after trigger", object: "table @.users", says: "AFTER triggers (note)", loses: "nothing; a write makes the row's entries absent",
	},
	"before trigger": {
		ddl: `CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.seen := now(); RETURN NEW; END$$;
CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp()`,
		severity: info, subject: "before trigger", object: "table @.users", says: "BEFORE triggers (stamp)", loses: "nothing",
	},
	"chain of triggers": {
		ddl: touchFn + `CREATE TRIGGER on_log AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE orders (id int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO log VALUES (1); RETURN NULL; END$$;
CREATE TRIGGER on_order AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION note()`,
		severity: warn, subject: "trigger", object: "trigger on_order on @.orders", says: "INSERT @.log; then trigger on_log; line 4: UPDATE @.users", loses: stale, more: true,
	},
	"function in SQL": {
		ddl:      `CREATE FUNCTION sweep(days int) RETURNS void LANGUAGE sql AS 'WITH gone AS (DELETE FROM users RETURNING id) SELECT count(*) FROM gone; SELECT'`,
		severity: warn, subject: "function", object: "function @.sweep(days integer)", says: "it writes @.users (line 1: DELETE @.users)", loses: stale,
	},
	"function with a body of standard SQL": {
		ddl:      `CREATE FUNCTION sweep() RETURNS void LANGUAGE sql BEGIN ATOMIC SELECT 1; UPDATE users SET name = 'x'; END`,
		severity: warn, subject: "function", object: "function @.sweep()", says: "UPDATE @.users", loses: stale,
	},
	"function with RETURNING INTO": {
		ddl: `CREATE FUNCTION sweep() RETURNS int LANGUAGE plpgsql AS $$DECLARE v int; BEGIN
  IF true THEN INSERT INTO "users" AS u (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x' RETURNING id INTO STRICT v; END IF;
  RETURN v; END$$`,
		severity: warn, subject: "function", object: "function @.sweep()", says: "line 2: INSERT @.users", loses: stale,
	},
	"function that runs a string": {
		ddl:      `CREATE FUNCTION sweep(v text) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE 'UPDATE users SET name = ' || quote_literal(v); END$$`,
		severity: warn, subject: "function", object: "function @.sweep(v text)", says: "mentions, and may write, @.users (line 1: UPDATE @.users)", loses: stale,
	},
	"function that names the table in a string": {
		ddl: `CREATE FUNCTION sweep() RETURNS void LANGUAGE plpgsql AS $$DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['users', 'log'] LOOP EXECUTE format('DELETE FROM %I', t); END LOOP; END$$`,
		severity: warn, subject: "function", object: "function @.sweep()", says: "mentions, and may write, @.users", loses: stale,
	},
	"function that writes by a cascade": {
		ddl: `CREATE TABLE orgs (id int PRIMARY KEY); ALTER TABLE users ADD org int REFERENCES orgs ON DELETE CASCADE;
CREATE FUNCTION sweep() RETURNS void LANGUAGE plpgsql AS $$BEGIN DELETE FROM orgs; END$$`,
		severity: warn, subject: "function", object: "function @.sweep()", says: "DELETE @.orgs; then foreign key users_org_fkey", loses: stale,
	},
	"function that changes a key which cascades": {
		ddl: `CREATE TABLE orgs (id int PRIMARY KEY, name text); ALTER TABLE users ADD org int REFERENCES orgs ON UPDATE CASCADE;
CREATE FUNCTION move() RETURNS void LANGUAGE plpgsql AS $$BEGIN UPDATE orgs SET name = lower(name), id = id + 1 WHERE id = 1; END$$`,
		severity: warn, subject: "function", object: "function @.move()", says: "UPDATE @.orgs; then foreign key users_org_fkey", loses: stale,
	},
	"function in another language": {
		ddl:      `CREATE FUNCTION sweep() RETURNS void LANGUAGE other AS $$db.query("delete from users where id = " + x)$$`,
		severity: warn, subject: "function", object: "function @.sweep()", says: "mentions, and may write, @.users", loses: stale,
	},
	"trigger that only adds rows": {
		ddl: `CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO users VALUES (NEW.n); RETURN NULL; END$$;
CREATE TRIGGER note AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION note()`,
		severity: info, subject: "trigger", object: "trigger note on @.log", says: "INSERT @.users", loses: "nothing: it only adds rows",
	},
	"trigger that adds rows whose absence is cached": {
		ddl: `CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO users VALUES (NEW.n); RETURN NULL; END$$;
CREATE TRIGGER note AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION note()`,
		rule: usersRule + "negative_ttl: 1m\n", severity: warn, subject: "trigger", object: "trigger note on @.log", says: "INSERT @.users", loses: stale,
	},
	"trigger that adds and changes rows": {
		ddl: `CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO users VALUES (NEW.n); DELETE FROM users WHERE id < 5; RETURN NULL; END$$;
CREATE TRIGGER note AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION note()`,
		severity: warn, subject: "trigger", object: "trigger note on @.log", says: "DELETE @.users", loses: stale,
	},
	"function that calls another": {
		ddl: `CREATE FUNCTION inner_one() RETURNS void LANGUAGE sql AS 'DELETE FROM users';
CREATE FUNCTION outer_one() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM inner_one(); END'`,
		severity: warn, subject: "function", object: "function @.inner_one()", says: "it is called by function @.outer_one()", loses: stale,
	},
	"procedure": {
		ddl:      `CREATE PROCEDURE sweep() LANGUAGE plpgsql AS $$BEGIN DELETE FROM users; COMMIT; END$$`,
		severity: warn, subject: "procedure", object: "procedure @.sweep()", says: "DELETE @.users", loses: stale,
	},
	"function with its own search_path": {
		ddl:      `CREATE FUNCTION sweep() RETURNS void LANGUAGE plpgsql SET search_path = @, pg_temp AS $$BEGIN TRUNCATE log, users; END$$`,
		severity: warn, subject: "function", object: "function @.sweep()", says: "TRUNCATE @.users", loses: stale,
	},
	"cascade": {
		ddl:      `CREATE TABLE orgs (id int PRIMARY KEY); ALTER TABLE users ADD org int REFERENCES orgs ON DELETE SET NULL ON UPDATE CASCADE`,
		severity: info, subject: "cascade", object: "foreign key users_org_fkey of @.users", says: "a DELETE (ON DELETE SET NULL) or an UPDATE of the key (ON UPDATE CASCADE) of @.orgs", loses: coarse,
	},
	"cascade over two tables": {
		ddl: `CREATE TABLE lands (id int PRIMARY KEY); CREATE TABLE orgs (id int PRIMARY KEY, land int REFERENCES lands ON DELETE CASCADE);
ALTER TABLE users ADD org int REFERENCES orgs ON DELETE CASCADE`,
		severity: info, subject: "cascade", object: "foreign key orgs_land_fkey of @.orgs", says: "and these change rows of @.users", loses: coarse,
	},
	"view": {
		ddl:      `CREATE VIEW recent AS SELECT * FROM users WHERE seen > 'yesterday'`,
		severity: info, subject: "view", object: "view @.recent", says: "which the rule does not name", loses: coarse,
	},
	"view with an INSTEAD OF trigger": {
		ddl:      `CREATE VIEW counted AS SELECT id, count(*) FROM users GROUP BY id;` + touchFn + `CREATE TRIGGER ins INSTEAD OF INSERT ON counted FOR EACH ROW EXECUTE FUNCTION touch()`,
		severity: info, subject: "instead-of trigger", object: "view @.counted", says: "INSTEAD OF triggers (ins)", loses: coarse,
	},
	"rewrite rule": {
		ddl:      `CREATE RULE gone AS ON DELETE TO users DO ALSO INSERT INTO log VALUES (1)`,
		severity: warn, subject: "rewrite rule", object: "table @.users", says: "(gone)", loses: coarse,
	},
	"rewrite rule elsewhere": {
		ddl:      `CREATE RULE back AS ON INSERT TO log DO ALSO UPDATE users SET seen = now()`,
		severity: info, subject: "rewrite rule", object: "table @.log", says: "(back) name @.users", loses: coarse,
	},
	"row security": {
		ddl:      `ALTER TABLE users ENABLE ROW LEVEL SECURITY`,
		severity: warn, subject: "row security", object: "table @.users", says: "row-level security", loses: "one entry for all roles",
	},
	"partitions": {
		ddl:  `CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (9)`,
		rule: "table: \"@.parts\"\nkey: \"p:{id}\"\n", severity: info, subject: "partition", object: "table @.parts", says: "1 partitions", loses: "attaches, detaches or drops",
	},
	"rule for a partition": {
		ddl:  `CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (9)`,
		rule: "table: \"@.parts_1\"\nkey: \"p:{id}\"\n", severity: info, subject: "ancestor", object: "table @.parts_1", says: "a part of @.parts", loses: coarse,
	},
	"inheritance": {
		ddl:      `CREATE TABLE guests () INHERITS (users)`,
		severity: info, subject: "inheritance", object: "table @.users", says: "(@.guests)", loses: "would share an entry",
	},
	"foreign table": {
		ddl:      `CREATE EXTENSION IF NOT EXISTS postgres_fdw SCHEMA public; CREATE SERVER "@" FOREIGN DATA WRAPPER postgres_fdw; CREATE FOREIGN TABLE far (id int, name text, seen timestamptz) INHERITS (users) SERVER "@"`,
		severity: warn, subject: "foreign table", object: "table @.users", says: "on other servers (@.far)", loses: "is not seen",
	},
	"deferrable constraint": {
		ddl:      `ALTER TABLE users ADD CONSTRAINT late UNIQUE (id) DEFERRABLE INITIALLY DEFERRED`,
		severity: info, subject: "deferrable constraint", object: "constraint late on @.users", says: "late (id) is deferrable", loses: "another unique index",
	},
	"replica identity": {
		ddl:      `ALTER TABLE users REPLICA IDENTITY NOTHING`,
		severity: info, subject: "replica identity", object: "table @.users", says: "does not hold id", loses: "nothing today",
	},
	"unlogged": {
		ddl:      `ALTER TABLE users SET UNLOGGED`,
		severity: info, subject: "replica identity", object: "table @.users", says: "is unlogged", loses: "after a crash",
	},
}

// A check that cries wolf is switched off: what only reads, belongs to another table, or stands in a comment or an ordinary
// string is no finding.
func TestNoFalseAlarm(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, shopDDL+`
CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE, note text);
CREATE SCHEMA "@_other"; CREATE TABLE "@_other".users (id int);
CREATE FUNCTION reads() RETURNS int LANGUAGE plpgsql AS $$DECLARE v text := 'UPDATE users SET x'; BEGIN
  -- DELETE FROM users
  PERFORM 1 FROM users FOR UPDATE; PERFORM * FROM users u FOR UPDATE OF u;
  INSERT INTO orders SELECT id FROM users ON CONFLICT DO NOTHING;
  UPDATE orders SET note = 'delete from users' FROM users WHERE users.id = orders.user_id;
  RETURN 1; END$$;
CREATE TABLE lands (id int PRIMARY KEY, name text); CREATE TABLE orgs (id int PRIMARY KEY, land int REFERENCES lands ON DELETE SET NULL);
ALTER TABLE users ADD org int REFERENCES orgs ON UPDATE CASCADE;
CREATE FUNCTION no_key() RETURNS void LANGUAGE plpgsql AS $$BEGIN
  UPDATE orgs o SET land = (SELECT max(id) FROM lands WHERE id <> 1) WHERE o.id = 2; INSERT INTO orgs VALUES (1); DELETE FROM orgs; DELETE FROM lands; END$$;
CREATE FUNCTION no_key_sql() RETURNS void LANGUAGE sql AS 'UPDATE orgs SET land = 1 WHERE id = 2; INSERT INTO orgs VALUES (1); DELETE FROM lands';
CREATE FUNCTION elsewhere() RETURNS void LANGUAGE sql SET search_path = "@_other" AS 'DELETE FROM users';
CREATE FUNCTION qualified() RETURNS void LANGUAGE sql AS 'DELETE FROM "@_other".users';
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO log VALUES (TG_OP = 'UPDATE'); RETURN NULL; END$$;
CREATE FUNCTION unused() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN DELETE FROM users; RETURN NULL; END$$;
CREATE TRIGGER note AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER off AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION unused(); ALTER TABLE orders DISABLE TRIGGER off;
CREATE VIEW counted AS SELECT count(*) FROM users;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM users`)
	t.Cleanup(func() { _, _ = d.conn.Exec(context.Background(), d.here(`DROP SCHEMA "@_other" CASCADE`)) })
	found := d.find(d.conn, d.rules(usersRule), blindspots.Options{SchemaOnly: true})
	if f := one(t, found, "cascade", "foreign key users_org_fkey"); len(found) > 1 || f.Severity > info || !strings.Contains(f.Problem, "an UPDATE of the key (ON UPDATE CASCADE) of") {
		t.Errorf("a sound schema has findings:\n%s", show(found))
	}
}
