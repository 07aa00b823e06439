package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/rules/draft"
)

// initFlags are what init is asked to do.
type initFlags struct {
	settings              settings
	only, except, schemas []string
	force, dryRun, asJSON bool
	settled               bool // the DSN or the environment names the folder
}

func newInit() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Draft a rule file for each table of a database",
		Long: `init reads the catalogue of a live database and writes one rule file a table: a key from
the primary key, further entries from other unique columns, views through which the table is
written, and comments that explain each choice. Columns whose names speak of secrets are left
out. What it writes loads and binds: the driver's own judgement decides about every line.
It reads the catalogue and no row, and needs no Redis.

What cannot have a rule is listed with the reason: tables without a usable unique key,
partitions (the rule of their table holds), views, foreign tables, wtcache's outbox, tables of
extensions. Tables with row-level security, unlogged ones, and the bookkeeping of migration tools
get one where --only names them.

No file is overwritten without being asked for: on a terminal init asks for each one that is
there and differs (y, N, all, quit), else it keeps them, unless --force is given. Tables that
have a rule in a file of another name get none.

Exit codes: 0 all is written, or as it would be; 1 a file that is there was kept, a table
that --only names gets none, or there is none that can have one; 2 wrong usage, a name that is
not there, rule files that cannot be read, or a server that does not answer.`,
		Example: `  wtcache init --dsn postgres://localhost/shop
  wtcache init --dsn postgres://localhost/shop --only users,sales.orders --rules ./rules
  wtcache init --schema public --except audit_log --dry-run
  wtcache init --json | jq '.skipped[] | {name, reason}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.addTo(cmd)
	return cmd
}

func (f *initFlags) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.settings.dsn, "dsn", "", "DSN of Postgres (default $WTCACHE_DSN, else $DATABASE_URL)")
	flags.StringVar(&f.settings.rules, "rules", "", "folder for the rule files, made where it is missing (default wtcache_rules of the DSN, else $WTCACHE_RULES, else ./rules)")
	flags.StringVar(&f.settings.outbox, "outbox", "", "schema of the outbox, whose tables get no rule (default wtcache_outbox of the DSN, else $WTCACHE_OUTBOX, else wtcache)")
	flags.StringSliceVar(&f.only, "only", nil, "tables to draft, as table or schema.table, with commas between them; may be repeated")
	flags.StringSliceVar(&f.except, "except", nil, "tables and views to leave out, in the same way")
	flags.StringSliceVar(&f.schemas, "schema", nil, "schemas to look at (default all but the system's)")
	flags.BoolVar(&f.force, "force", false, "overwrite files that are there and differ")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the files instead of writing them")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON object: files, with what became of each, and skipped")
	cmd.MarkFlagsMutuallyExclusive("force", "dry-run")
	_ = cmd.MarkFlagDirname("rules")
	for _, name := range []string{"dsn", "outbox", "only", "except", "schema"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

func (f *initFlags) run(cmd *cobra.Command) error {
	base, folder, err := f.where()
	if err != nil {
		return err
	}
	drafted, err := f.draft(cmd.Context(), base, folder)
	if err != nil {
		return err
	}
	report := initReport{Folder: folder, Skipped: drafted.Skipped, named: len(f.only), check: "wtcache check"}
	if !f.settled {
		report.check += " --rules " + folder // which check does not know of itself
	}
	if report.Skipped == nil {
		report.Skipped = []draft.Skipped{}
	}
	if err = f.write(cmd, drafted, &report); err != nil {
		report.Error = err.Error()
	}
	if perr := report.print(cmd, f); perr != nil {
		return perr
	}
	if err == nil && report.atFault() {
		return errFindings
	}
	return err
}

// where gives the database and the folder.
func (f *initFlags) where() (base, folder string, err error) {
	dsn, err := dsnOr(f.settings.dsn)
	if err != nil {
		return "", "", err
	}
	base, cfg, err := wtcache.ParseDSN(dsn)
	if err != nil {
		return "", "", err
	}
	f.settled = cfg.RulesPath != "" && f.settings.rules == ""
	f.settings.override(&cfg)
	f.settings.outbox = cfg.Outbox
	folder = cfg.RulesPath
	if folder == "" {
		folder = "rules"
	}
	info, err := os.Stat(folder)
	switch {
	case err == nil && !info.IsDir():
		return "", "", fmt.Errorf("%s is a file; name the folder for the rule files with --rules", folder)
	case err != nil && strings.ContainsAny(folder, "*?["):
		return "", "", fmt.Errorf("%s is a pattern; name the folder for the rule files with --rules", folder)
	}
	return base, folder, nil
}

// draft drafts with an eye to what is in the folder.
func (f *initFlags) draft(ctx context.Context, base, folder string) (*draft.Result, error) {
	existing, faulty, err := draft.Existing(folder)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx) //nolint:errcheck // it only read
	drafted, err := draft.New(ctx, asker{conn}.ask, draft.Options{
		Only: f.only, Except: f.except, Schemas: f.schemas, Outbox: f.settings.outbox, Existing: existing,
	})
	if err != nil {
		return nil, err
	}
	if err := drafted.InTheWay(faulty); err != nil {
		return nil, fmt.Errorf("rule files that are there cannot be loaded; mend or move them first:\n%w", err)
	}
	return drafted, nil
}

// asker asks for texts, as rules.Querier wants them.
type asker struct{ conn *pgx.Conn }

func (a asker) ask(ctx context.Context, text string) ([][]*string, error) {
	results, err := a.conn.PgConn().Exec(ctx, text).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("the server gave %d results for one query", len(results))
	}
	rows := make([][]*string, len(results[0].Rows))
	for i, row := range results[0].Rows {
		rows[i] = make([]*string, len(row))
		for j, cell := range row {
			if cell != nil {
				text := string(cell)
				rows[i][j] = &text
			}
		}
	}
	return rows, nil
}

// write writes the drafts, or only says what would be. What was done before an error is in the report.
func (f *initFlags) write(cmd *cobra.Command, drafted *draft.Result, report *initReport) error {
	decide := f.decide(cmd)
	report.Files = []initFile{}
	for _, file := range drafted.Files {
		done := initFile{File: file, Action: draft.Drafted}
		if !f.dryRun {
			var err error
			if done.Action, err = file.Write(report.Folder, decide); err != nil {
				return err
			}
		}
		report.Files = append(report.Files, done)
	}
	return nil
}

func (f *initFlags) decide(cmd *cobra.Command) draft.Decide {
	in, isFile := cmd.InOrStdin().(*os.File)
	switch {
	case f.force:
		return draft.Replace
	case isFile && isTerminal(in) && isTerminal(cmd.ErrOrStderr()):
		return (&question{ctx: cmd.Context(), in: in, out: cmd.ErrOrStderr()}).ask
	}
	return draft.Keep
}

// question asks a person about each file.
type question struct {
	ctx       context.Context // of the command: an interrupt ends the waiting for an answer
	in        io.Reader
	out       io.Writer
	all, quit bool
}

var errNoAnswer = errors.New("there is no answer; give --force to overwrite")

func (q *question) ask(path string) (replace bool, err error) {
	for !q.all && !q.quit {
		fmt.Fprintf(q.out, "%s is there and differs. Overwrite it? [y]es, [N]o, [a]ll, [q]uit: ", path)
		line, err := q.line()
		if err != nil {
			return false, err
		}
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return true, nil
		case "", "n", "no":
			return false, nil
		case "a", "all":
			q.all = true
		case "q", "quit":
			q.quit = true
		}
	}
	return q.all, nil
}

// line waits for a line, or for an interrupt, which leaves the reading behind.
func (q *question) line() (string, error) {
	line, err := orInterrupted(q.ctx, func() (string, error) { return readLine(q.in) })
	if q.ctx.Err() != nil {
		fmt.Fprintln(q.out)
	}
	return line, err
}

// readLine reads one byte at a time: what comes after the line is for the next question.
func readLine(in io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := in.Read(b)
		switch {
		case n == 1 && b[0] == '\n':
			return string(line), nil
		case n == 1:
			line = append(line, b[0])
		case errors.Is(err, io.EOF):
			return "", errNoAnswer
		case err != nil:
			return "", err
		}
	}
}
