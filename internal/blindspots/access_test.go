package blindspots_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/blindspots"
	"github.com/wtcache/wtcache/internal/testenv"
)

// one gives the only finding of a subject and an object.
func one(t *testing.T, found []cachesync.Finding, subject, object string) (hit cachesync.Finding) {
	t.Helper()
	n := 0
	for _, f := range found {
		if f.Subject == subject && strings.HasPrefix(f.Object, object) {
			hit, n = f, n+1
		}
	}
	if n != 1 {
		t.Fatalf("%d findings are %s of %s:\n%s", n, subject, object, show(found))
	}
	return hit
}

// withRoles opens a database in a server of the test's own, whose roles nobody else has.
func withRoles(t *testing.T, settings map[string]string, ddl string) *database {
	t.Helper()
	return databaseIn(t, testenv.NewPostgres(t, testenv.PostgresOptions{Settings: settings}).URL, shopDDL+ddl)
}

func (d *database) as(role string) *pgx.Conn {
	d.t.Helper()
	return d.connect(d.dsn + "&role=" + role)
}

// A role that cannot read what it writes has each write refused; one that cannot read has each miss fail. The statement that
// the finding gives has to mend it.
func TestRights(t *testing.T) {
	t.Parallel()
	d := withRoles(t, nil, `
CREATE ROLE shop; GRANT USAGE ON SCHEMA @ TO shop; GRANT INSERT, UPDATE ON users TO shop; GRANT SELECT (id) ON users TO shop;
CREATE ROLE reader; GRANT USAGE ON SCHEMA @ TO reader; GRANT SELECT (id, name) ON users TO reader;
CREATE ROLE stranger; GRANT SELECT ON users TO stranger`)
	dir := d.rules(usersRule)
	for role, want := range map[string]struct {
		severity cachesync.Severity
		says     string
	}{
		"shop":     {fail, "read only some of its columns (not name, seen)"},
		"reader":   {warn, "may read only some columns of @.users (not seen)"},
		"stranger": {fail, "may not use the schema @"},
	} {
		conn := d.as(role)
		f := one(t, d.find(conn, dir, blindspots.Options{}), "rights", "table "+d.here("@.users"))
		if f.Severity != want.severity || !strings.Contains(f.Problem, d.here(want.says)) || f.Where != dir+"/0.yaml:1:8" {
			t.Errorf("%s:\n%s", role, show([]cachesync.Finding{f}))
		}
		d.exec(f.Fix)
		for _, f := range d.find(conn, dir, blindspots.Options{}) {
			if f.Subject == "rights" {
				t.Errorf("%s, after %s:\n%s", role, f.Fix, show([]cachesync.Finding{f}))
			}
		}
	}
}

// Another service that writes the tables makes the cache stale all day; whoever looks at the database while it is connected has to see it, and
// whoever may connect at all.
func TestOtherWriters(t *testing.T) {
	t.Parallel()
	d := withRoles(t, nil, `
CREATE ROLE shop LOGIN; GRANT USAGE ON SCHEMA @ TO shop; GRANT SELECT, INSERT, UPDATE ON users, log TO shop;
CREATE ROLE writers; GRANT UPDATE (name) ON users TO writers; GRANT USAGE ON SCHEMA @ TO writers; CREATE ROLE billing LOGIN IN ROLE writers;
CREATE ROLE report LOGIN; GRANT SELECT ON users TO report;
GRANT DELETE ON log TO PUBLIC; ALTER TABLE log ADD PRIMARY KEY (n)`)
	dir := d.rules(usersRule, "table: \"@.log\"\nkey: \"log:{n}\"\n")
	d.connect(strings.Replace(d.dsn, "user=postgres", "user=billing", 1) + "&application_name=invoices")
	d.connect(strings.Replace(d.dsn, "user=postgres", "user=report", 1))
	shop := d.connect(strings.Replace(d.dsn, "user=postgres", "user=shop", 1))
	found := d.find(shop, dir, blindspots.Options{})
	if f := one(t, found, "connections", "application invoices"); f.Severity != warn || !strings.Contains(f.Problem, "as billing, who may write "+d.here("@.log, @.users")) {
		t.Error(show([]cachesync.Finding{f}))
	}
	if f := one(t, found, "roles", "role billing, writers"); f.Severity != info || f.Where != dir+"/0.yaml:1:8" {
		t.Error(show([]cachesync.Finding{f}))
	}
	if f := one(t, found, "roles", "superusers"); !strings.Contains(f.Problem, "postgres") {
		t.Error(show([]cachesync.Finding{f}))
	}
	one(t, found, "roles", d.here("table @.log"))
	one(t, found, "connections", "application without application_name, role postgres")
	one(t, found, "connections", "role shop") // it may not look into pg_stat_activity
	d.exec("GRANT pg_read_all_stats TO shop")
	for _, f := range d.find(shop, dir, blindspots.Options{}) {
		if f.Where == "pg_stat_activity" {
			t.Error(show([]cachesync.Finding{f}))
		}
		if strings.Contains(f.Problem, "report") {
			t.Errorf("a role that cannot write is reported:\n%s", show([]cachesync.Finding{f}))
		}
	}
}

// What a server does by itself, or for all sessions, is easily forgotten.
func TestServer(t *testing.T) {
	t.Parallel()
	d := withRoles(t, map[string]string{"standard_conforming_strings": "off", "jit": "on", "wal_level": "replica"}, `
CREATE SCHEMA cron; CREATE TABLE cron.job (jobid bigint, schedule text, command text, active bool, database name);
CREATE FUNCTION nightly() RETURNS void LANGUAGE sql AS 'DELETE FROM users';
INSERT INTO cron.job VALUES (1, '0 3 * * *', 'SELECT @.nightly()', true, current_database()), (2, '@', 'DELETE FROM @.users', false, current_database()), (3, '* * * * *', 'VACUUM @.users', true, current_database());
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN UPDATE users SET name = 'x'; END$$;
CREATE EVENT TRIGGER audited ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION on_ddl();
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (9);
CREATE SUBSCRIPTION feed CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)`)
	t.Cleanup(func() {
		_, _ = d.conn.Exec(context.Background(), "ALTER SUBSCRIPTION feed SET (slot_name = NONE)")
		_, _ = d.conn.Exec(context.Background(), "DROP SUBSCRIPTION feed")
		_, _ = d.conn.Exec(context.Background(), "DROP SCHEMA cron CASCADE")
	})
	d.exec("INSERT INTO pg_subscription_rel VALUES ((SELECT oid FROM pg_subscription), 'users'::regclass, 'r', '0/0')")
	dir := d.rules(usersRule)
	found := d.find(d.conn, dir, blindspots.Options{})
	for _, want := range []struct {
		severity              cachesync.Severity
		subject, object, says string
	}{
		{warn, "settings", "standard_conforming_strings", "nothing is spliced"},
		{info, "settings", "jit", "jit is on"},
		{info, "replica identity", "wal_level", "replica"},
		{warn, "scheduled job", "pg_cron job 1", "nightly"},
		{warn, "event trigger", "event trigger audited", "ddl_command_end"},
		{warn, "subscription", "subscription feed", "logical replication writes @.users"},
	} {
		if f := one(t, found, want.subject, want.object); f.Severity != want.severity || !strings.Contains(f.Problem, d.here(want.says)) {
			t.Error(show([]cachesync.Finding{f}))
		}
	}
	for _, f := range found {
		if strings.HasPrefix(f.Object, "pg_cron job") && f.Object != "pg_cron job 1" {
			t.Errorf("a false alarm:\n%s", show([]cachesync.Finding{f}))
		}
	}
}
