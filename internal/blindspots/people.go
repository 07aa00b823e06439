package blindspots

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// rights looks at what the session's role may do with the tables and with what their rows are written by.
func (w *world) rights() {
	for _, t := range w.set.Tables {
		for _, oid := range sorted(w.reach[t]) {
			target, ok := w.session.Lookup(w.nameOf(oid).Schema, w.nameOf(oid).Table)
			if ok && target.Table == t && (w.rows(t, oid) || target.View) {
				w.right(t, w.byOID[oid], w.access.rights[oid], target)
			}
		}
	}
}

func (w *world) nameOf(oid uint32) rules.Name {
	if r := w.byOID[oid]; r != nil {
		return r.name()
	}
	return rules.Name{}
}

func (w *world) right(t *rules.Table, r *relation, may right, target rules.Target) {
	role := ident(w.settings["role"])
	f := cachesync.Finding{Severity: cachesync.Error, Subject: "rights", Object: kinds[r.Kind] + " " + r.name().String()}
	switch {
	case target.MissingSelect:
		f.Problem = fmt.Sprintf("the role %s may write %s but not read it", role, r.name())
		f.Loss, f.Fix = "every write of it is refused, since what was written could not be captured", target.Grant
		if may.Any {
			f.Problem = fmt.Sprintf("the role %s may write %s, and read only some of its columns (not %s)", role, r.name(), list(may.Missing))
			f.Loss += "; rights to single columns do not do"
		}
	case r.OID != t.OID:
		return
	case !may.Usage:
		f.Problem = fmt.Sprintf("the role %s may not use the schema %s", role, ident(r.Schema))
		f.Loss, f.Fix = "it can neither read nor write the table", fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", ident(r.Schema), role)
	case !may.Select:
		f.Severity = cachesync.Warning
		f.Problem = fmt.Sprintf("the role %s may not read %s", role, r.name())
		if may.Any {
			f.Problem = fmt.Sprintf("the role %s may read only some columns of %s (not %s)", role, r.name(), list(may.Missing))
		}
		f.Loss, f.Fix = "a reader that misses in Redis gets an error from the database", fmt.Sprintf("GRANT SELECT ON %s TO %s", sqlName(r), role)
	default:
		return
	}
	w.say(t, f)
}

var kinds = map[string]string{"r": "table", "p": "table", "v": "view", "f": "foreign table"}

// people looks at who else may write the tables, and at who is connected now and may.
func (w *world) people() {
	byRole, supers := map[string][]uint32{}, []string{}
	for _, x := range w.access.writers {
		if x.Super {
			supers = append(supers, x.Role)
			continue
		}
		byRole[x.Role] = append(byRole[x.Role], x.Rel)
	}
	w.public()
	w.grants(byRole)
	if supers = unique(supers); len(supers) > 0 {
		w.say(w.set.Tables[0], cachesync.Finding{
			Severity: cachesync.Info, Subject: "roles", Object: "superusers", Where: "all rules",
			Problem: fmt.Sprintf("superusers may write every table: %s", list(supers)),
			Loss:    "where they write by psql or a program without this driver, " + stale,
		})
	}
	w.connected(byRole, supers)
}

func (w *world) public() {
	for _, t := range w.set.Tables {
		if w.access.public[t.OID] {
			r := w.byOID[t.OID]
			w.say(t, cachesync.Finding{
				Severity: cachesync.Info, Subject: "roles", Object: "table " + t.Name.String(),
				Problem: fmt.Sprintf("every role may write %s (granted to PUBLIC)", t.Name), Loss: "where another program does without this driver, " + stale,
				Fix: fmt.Sprintf("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON %s FROM PUBLIC, and grant them to the programs' role", sqlName(r)),
			})
		}
	}
}

// grants says of each group of tables once who may write it.
func (w *world) grants(byRole map[string][]uint32) {
	groups := map[string][]*rules.Table{}
	for _, t := range w.set.Tables {
		var roles []string
		for role, oids := range byRole {
			if slices.Contains(oids, t.OID) && !w.access.public[t.OID] {
				roles = append(roles, ident(role))
			}
		}
		if len(roles) > 0 {
			key := strings.Join(unique(roles), ", ")
			groups[key] = append(groups[key], t)
		}
	}
	for roles, tables := range groups {
		var named, quoted, places []string
		for _, t := range tables {
			named, places = append(named, t.Name.String()), append(places, t.Rule.Pos.String())
			quoted = append(quoted, sqlName(w.byOID[t.OID]))
		}
		w.say(tables[0], cachesync.Finding{
			Severity: cachesync.Info, Subject: "roles", Object: "role " + roles, Where: list(places),
			Problem: fmt.Sprintf("besides %s may write %s: %s", ident(w.settings["role"]), list(named), roles),
			Loss:    "where they do without this driver, " + stale,
			Fix:     fmt.Sprintf("where they need not: REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON %s FROM %s", strings.Join(quoted, ", "), roles),
		})
	}
}

// connected looks at the sessions of this moment.
func (w *world) connected(byRole map[string][]uint32, supers []string) {
	for _, s := range w.access.sessions {
		f := cachesync.Finding{Severity: cachesync.Info, Subject: "connections", Object: "application " + s.who(), Where: "database " + w.settings["database"]}
		switch {
		case s.Role == w.settings["role"]:
			f.Problem = fmt.Sprintf("%s connected with this role now (%s)", several(s.Count), s.who())
			f.Loss = "nothing, where these are programs with this driver; where one is without it, " + stale
		case slices.Contains(supers, s.Role):
			f.Problem = fmt.Sprintf("%s connected as the superuser %s now (%s)", several(s.Count), s.Role, s.who())
			f.Loss = "where it writes ruled tables, " + stale
		case len(byRole[s.Role]) > 0:
			f.Severity = cachesync.Warning
			f.Problem = fmt.Sprintf("%s connected now as %s, who may write %s (%s)", several(s.Count), s.Role, list(w.tablesOf(byRole[s.Role])), s.who())
			f.Loss = "where it is a program without this driver, " + stale
			f.Fix = "have it open its database through this driver with the same rules and Redis, or take its rights to write"
		default:
			continue
		}
		w.say(w.set.Tables[0], f)
	}
	if !w.access.seesAll {
		w.say(w.set.Tables[0], cachesync.Finding{
			Severity: cachesync.Info, Subject: "connections", Where: "pg_stat_activity", Object: "role " + w.settings["role"],
			Problem: "the role may not look into other roles' sessions: addresses are hidden, and a server process may be taken for a program",
			Fix:     "GRANT pg_read_all_stats TO " + ident(w.settings["role"]) + ", or run check as a role that has it",
		})
	}
}

func (s connected) who() string {
	name := s.Application
	if name == "" {
		name = "without application_name"
	}
	if s.Address == "" {
		return fmt.Sprintf("%s, role %s", name, s.Role)
	}
	return fmt.Sprintf("%s, role %s, from %s", name, s.Role, s.Address)
}

func several(n int) string {
	if n == 1 {
		return "1 connection is"
	}
	return fmt.Sprintf("%d connections are", n)
}

func (w *world) tablesOf(oids []uint32) (all []string) {
	for _, oid := range oids {
		all = append(all, w.nameOf(oid).String())
	}
	return unique(all)
}

// server looks at settings and extensions.
func (w *world) server() {
	say := func(severity cachesync.Severity, subject, object, problem, loss, fix string) {
		w.say(w.set.Tables[0], cachesync.Finding{Severity: severity, Subject: subject, Object: object, Where: "server", Problem: problem, Loss: loss, Fix: fix})
	}
	if w.settings["standard_conforming_strings"] == "off" {
		say(cachesync.Warning, "settings", "standard_conforming_strings", "standard_conforming_strings is off: texts cannot be read safely, so nothing is spliced into them",
			"nothing stale is served; writes that do not pin every key by value make every entry of their rule absent",
			fmt.Sprintf("ALTER ROLE %s SET standard_conforming_strings = on, where the program's texts allow it", ident(w.settings["role"])))
	}
	if role := w.settings["session_replication_role"]; role != "" && role != "origin" {
		say(cachesync.Warning, "settings", "session_replication_role", "session_replication_role is "+role+": triggers and foreign keys do not act in this session",
			"what is said here of triggers is true of other sessions alone", "ALTER ROLE … RESET session_replication_role")
	}
	if w.settings["jit"] == "on" {
		say(cachesync.Info, "settings", "jit", "jit is on: a large catalogue can make the queries of a new connection look dear enough to be compiled",
			"a new connection can take some tenths of a second longer", "jit=off in the DSN, if connections are slow to open")
	}
	if level := w.settings["wal_level"]; level != "logical" {
		say(cachesync.Info, "replica identity", "wal_level", "wal_level is "+level+", so that nothing can follow the WAL's rows", "nothing today", "wal_level = logical, before something that follows the WAL is used")
	}
	for _, e := range w.exts {
		if what := writingExtensions[e]; what != "" {
			say(cachesync.Info, "extension", "extension "+e, what, "where it writes a ruled table, "+stale, "")
		}
	}
}

// writingExtensions can write tables of their own accord.
var writingExtensions = map[string]string{
	"pglogical":   "pglogical applies rows of other servers, through no driver",
	"spock":       "spock applies rows of other servers, through no driver",
	"bdr":         "bdr applies rows of other servers, through no driver",
	"pg_partman":  "pg_partman makes, detaches and drops partitions by its own jobs",
	"timescaledb": "timescaledb drops and compresses chunks by its own jobs",
	"pg_cron":     "pg_cron runs SQL by a schedule, through no driver",
	"pgagent":     "pgagent runs SQL by a schedule, through no driver",
	"aws_s3":      "aws_s3 loads tables from files, through no driver",
}

const cronSQL = `SELECT jobid::pg_catalog.text, schedule::pg_catalog.text, command::pg_catalog.text FROM cron.job WHERE active AND database = pg_catalog.current_database()`

// jobs reads what pg_cron runs, where the role may.
func (w *world) jobs(ctx context.Context, q rules.Querier) error {
	switch w.settings["cron"] {
	case "true":
	case "false":
		w.say(w.set.Tables[0], cachesync.Finding{
			Severity: cachesync.Info, Subject: "scheduled job", Where: "cron.job", Object: "table cron.job",
			Problem: "the role may not see the jobs of pg_cron", Loss: "where one writes a ruled table, " + stale, Fix: "run check as a role that may",
		})
		return nil
	default:
		return nil
	}
	rows, err := q(ctx, cronSQL)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if len(row) == 3 && row[0] != nil && row[1] != nil && row[2] != nil {
			w.job(*row[0], *row[1], *row[2])
		}
	}
	return nil
}

func (w *world) job(id, schedule, command string) {
	f := &routine{Lang: "sql", Source: command}
	w.bodies[f] = parser.ReadSQLBody(command)
	w.spreadRoutine(f)
	for _, t := range w.set.Tables {
		if _, writes := w.effects[f][t]; writes {
			w.say(t, cachesync.Finding{
				Severity: cachesync.Warning, Subject: "scheduled job", Object: "pg_cron job " + id,
				Problem: fmt.Sprintf("at %q it %s %s (%s)", schedule, w.may(f, t), t.Name, w.route(f, t)), Loss: stale,
				Fix: "run it from a program with this driver, or shorten the rule's ttl",
			})
		}
	}
}
