package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/parser"
)

// scratchPatience bounds the dropping of a scratch database, which must happen whatever has ended the run.
const scratchPatience = 30 * time.Second

// scratch is a database of our own on somebody's server, which holds the schema of a dump.
type scratch struct {
	admin *pgx.ConnConfig
	name  string
	file  string
	left  []leftOut
}

// leftOut is a statement of the dump that was not run, and why.
type leftOut struct {
	line      int
	why, what string
}

// checkDump loads a dump into a scratch database, checks the rules against that, and drops it.
func checkDump(ctx context.Context, dsn, file string, cfg wtcache.Config, opts wtcache.CheckOptions) (found []cachesync.Finding, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the dump: %w", err)
	}
	if err := loadable(string(text)); err != nil {
		return nil, fmt.Errorf("read the dump: %s: %w", file, err)
	}
	base, _, err := wtcache.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	admin, err := pgx.ParseConfig(base)
	if err != nil {
		return nil, fmt.Errorf("read the DSN: %w", err)
	}
	s := &scratch{admin: admin, file: file, name: "wtcache_check_" + strings.ToLower(rand.Text()[:12])}
	if err := s.create(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.drop(ctx)) }()
	if err := s.load(ctx, strings.TrimPrefix(string(text), "\ufeff")); err != nil { // editors of Windows put a mark first
		return nil, err
	}
	opts.SchemaOnly = true
	found, err = wtcache.CheckWith(ctx, s.connector(), cfg, opts)
	return append(found, s.findings()...), err
}

// The commands of psql by which a script is no longer that of one database's schema.
var (
	connects = regexp.MustCompile(`(?m)^\\(?:c|connect)[ \t]+(.+?)[ \t\r]*$`)
	includes = regexp.MustCompile(`(?m)^\\(?:i|ir|include|include_relative)[ \t]+(.+?)[ \t\r]*$`)
)

// loadable refuses what would be loaded as something else than it is.
func loadable(text string) error {
	var databases []string
	for _, m := range connects.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(databases, m[1]) {
			databases = append(databases, m[1])
		}
	}
	switch {
	case strings.HasPrefix(text, "PGDMP"):
		return errors.New("it is in pg_dump's own format; make SQL of it: pg_restore -s -f schema.sql")
	case len(databases) > 1:
		return fmt.Errorf("it holds several databases (%s); dump the one: pg_dump -s", strings.Join(databases, ", "))
	}
	if m := includes.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("it includes %s, which only psql does; put the files into one", m[1])
	}
	return nil
}

// run runs one statement on the server's own database.
func (s *scratch) run(ctx context.Context, text string) error {
	conn, err := pgx.ConnectConfig(ctx, s.admin)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing more is asked of it
	_, err = conn.PgConn().Exec(ctx, text).ReadAll()
	return err
}

func (s *scratch) create(ctx context.Context) error {
	err := s.run(ctx, "CREATE DATABASE "+s.name+" TEMPLATE template0")
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "42501" {
		return fmt.Errorf("the role %q may not create a scratch database for the dump; run as an administrator: ALTER ROLE %s CREATEDB; or use the DSN of a role that may (in CI, of a throw-away server)",
			s.admin.User, parser.QuoteIdentifier(s.admin.User))
	}
	if err != nil {
		err = fmt.Errorf("create a scratch database for the dump: %w", err)
		if ctx.Err() != nil { // it may have been made all the same
			err = errors.Join(err, s.drop(ctx))
		}
	}
	return err
}

// drop drops the scratch database, also where the run was interrupted.
func (s *scratch) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scratchPatience)
	defer cancel()
	if err := s.run(ctx, "DROP DATABASE IF EXISTS "+s.name+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop the scratch database (do it by hand: DROP DATABASE %s): %w", s.name, err)
	}
	return nil
}

func (s *scratch) config() *pgx.ConnConfig {
	cfg := s.admin.Copy()
	cfg.Database = s.name
	return cfg
}

func (s *scratch) connector() driver.Connector { return stdlib.GetConnector(*s.config()) }

// load runs the dump's statements one by one, so that each error has its line.
func (s *scratch) load(ctx context.Context, text string) error {
	conn, err := pgx.ConnectConfig(ctx, s.config())
	if err != nil {
		return fmt.Errorf("connect to the scratch database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing more is asked of it
	for _, st := range parser.SplitScript(text) {
		if why := reaching(st); why != "" {
			s.leave(st, why)
			continue
		}
		_, err := conn.PgConn().Exec(ctx, st.Text).ReadAll()
		if why := tolerable(st, err); why != "" {
			s.leave(st, why)
			continue
		}
		if err != nil {
			return fmt.Errorf("load the dump: %s:%d: %w\n    %s", s.file, st.Line, err, oneLine(st.Text))
		}
	}
	return nil
}

func (s *scratch) leave(st parser.ScriptStatement, why string) {
	s.left = append(s.left, leftOut{st.Line, why, oneLine(st.Text)})
}

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > 160 {
		return string(runes[:160]) + " …"
	}
	return text
}

// Why statements are left out.
const (
	leftGlobal = "it would change more than the scratch database"
	leftRows   = "rows are not needed"
	leftRole   = "a role that it names does not exist on this server"
	leftOther  = "this server does not know or allow it, and nothing here depends on it"
)

// reaching says why a statement must not run: databases, roles, tablespaces and subscriptions are the whole
// server's, and a session of its own would leave the scratch database's. "" where it may.
func reaching(st parser.ScriptStatement) string {
	verb, object := word(st, 0), word(st, 1)
	global := []string{"DATABASE", "ROLE", "USER", "GROUP", "TABLESPACE", "SYSTEM", "SUBSCRIPTION"}
	switch {
	case st.Copy:
		return leftRows
	case slices.Contains([]string{"CREATE", "ALTER", "DROP"}, verb) && slices.Contains(global, object) && word(st, 2) != "MAPPING":
		return leftGlobal
	case verb == "COMMENT" && slices.Contains(global, word(st, 2)), verb == "SECURITY":
		return leftGlobal
	case (verb == "GRANT" || verb == "REVOKE") && !onLocal(st):
		return leftGlobal
	case verb == "SET" && (object == "ROLE" || object == "SESSION" && word(st, 2) == "AUTHORIZATION"), verb == "RESET":
		return leftGlobal
	case verb == "DO" && globally.MatchString(st.Text):
		return leftGlobal
	case verb == "COPY" || verb == "INSERT":
		return leftRows
	}
	return ""
}

// globally finds in a DO block what reaching finds in a statement: schemas that are written by hand make their roles so.
var globally = regexp.MustCompile(`(?i)\b(CREATE|ALTER|DROP)\s+(DATABASE|ROLE|USER|GROUP|TABLESPACE|SYSTEM|SUBSCRIPTION)\b`)

// onLocal tells rights on a database's objects from memberships, and from rights on what is the server's.
func onLocal(st parser.ScriptStatement) bool {
	i := slices.Index(st.Head, "ON")
	return i >= 0 && !slices.Contains([]string{"DATABASE", "TABLESPACE", "PARAMETER"}, word(st, i+1))
}

func word(st parser.ScriptStatement, i int) string {
	if i < len(st.Head) {
		return st.Head[i]
	}
	return ""
}

// tolerable says why a statement's failure changes nothing of what is checked.
func tolerable(st parser.ScriptStatement, err error) string {
	failed, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	verb := word(st, 0)
	noRole := failed.Code == "42704" && strings.HasPrefix(failed.Message, "role ")
	rights := verb == "GRANT" || verb == "REVOKE" || slices.Contains(st.Head, "OWNER") || slices.Contains(st.Head, "POLICY") || slices.Contains(st.Head, "PRIVILEGES")
	switch {
	case noRole && rights:
		return leftRole
	case failed.Code == "42501" && (rights || verb == "COMMENT"), // it is for another role to say
		failed.Code == "42704" && verb == "SET", // a newer server's setting
		failed.Code == "42P06" && verb == "CREATE" && word(st, 1) == "SCHEMA":
		return leftOther
	}
	return ""
}

// findings says what of the dump was left out.
func (s *scratch) findings() []cachesync.Finding {
	var found []cachesync.Finding
	for _, why := range []string{leftGlobal, leftRole, leftOther, leftRows} {
		var lines []string
		var first leftOut
		for _, l := range s.left {
			if l.why == why {
				first = cmp.Or(first, l)
				lines = append(lines, fmt.Sprint(l.line))
			}
		}
		if len(lines) == 0 {
			continue
		}
		f := cachesync.Finding{
			Severity: cachesync.Info, Subject: "dump", Where: fmt.Sprintf("%s:%s", s.file, lines[0]),
			Problem: fmt.Sprintf("%s left out (%s), the first: %s", several(len(lines), "statement"), why, first.what),
		}
		found = append(found, f)
	}
	return append(found, cachesync.Finding{
		Severity: cachesync.Info, Subject: "dump", Where: s.file,
		Problem: "the rules were held against a dump: rights, other roles and connections, settings, jobs, subscriptions and replicas were not looked at",
		Fix:     "run wtcache check once against the database itself",
	})
}
