package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache"
)

// warmFlags are those of warm.
type warmFlags struct {
	settings
	opts      wtcache.WarmOptions
	from, to  []string
	maxMemory string
	state     string
	asJSON    bool
}

func newWarm() *cobra.Command {
	var f warmFlags
	cmd := &cobra.Command{
		Use:   "warm [table | entry…]",
		Short: "Fill entries from their tables",
		Long: `warm fills the entries of rules from their tables, before the readers come: all entries, or
those that are named as a reader names them (users.by_email); a table's name means all of
its entries. It takes leases, reads the primary and fills, as a reader does that misses: so
it makes nothing stale, whatever is written meanwhile. What is in Redis already is left as it is, except with --refresh; what
is being written just now is left to its writer.

It goes along a unique index from key to key, and holds a few batches in memory. With
--state it notes after each batch how far it is; when it was stopped, the same command goes
on from there. At the end the file is removed.

Exit codes: 0 all was gone through; 1 Redis is full, or uses more than --max-redis-memory;
2 it was stopped or could not be done (wrong usage, settings that cannot be used, a server
that does not answer, a state of other entries).`,
		Example: `  wtcache warm --dsn postgres://localhost/shop --rules ./rules --redis redis://localhost:6379
  wtcache warm users users.by_email --rate 5000 --state warm.json
  wtcache warm orders --from 1000000 --to 2000000 --parallel 4
  wtcache warm order_lines --from 7,1 --to 8 --refresh --max-redis-memory 80%
  wtcache warm --count --json --quiet`,
		RunE:              func(cmd *cobra.Command, entries []string) error { return f.run(cmd, entries) },
		ValidArgsFunction: entryNames(&f.settings),
	}
	f.addTo(cmd)
	flags := cmd.Flags()
	flags.StringSliceVar(&f.from, "from", nil, "the least key, of one entry: values of the unique index's columns, with commas between; the first few are enough")
	flags.StringSliceVar(&f.to, "to", nil, "the first key that is not warmed any more, as --from")
	flags.Float64Var(&f.opts.Rate, "rate", 0, "at most so many rows a second (default: no bound)")
	flags.IntVar(&f.opts.Batch, "batch", 500, "rows that are leased, read and filled at once")
	flags.IntVar(&f.opts.Parallel, "parallel", 1, "batches under way at a time")
	flags.BoolVar(&f.opts.Refresh, "refresh", false, "also fill what is in Redis already")
	flags.BoolVar(&f.opts.Count, "count", false, "count the rows first, for an exact total; else it is the planner's estimate")
	flags.StringVar(&f.maxMemory, "max-redis-memory", "", "stop when Redis uses more than this part of its maxmemory, such as 80%")
	flags.StringVar(&f.state, "state", "", "file that notes how far it is, and from which it goes on")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON object: entries, rows, filled, cached, refused, unstorable, gone, left, done, seconds")
	return cmd
}

func (f *warmFlags) run(cmd *cobra.Command, entries []string) error {
	f.opts.Entries, f.opts.From, f.opts.To = entries, anyOf(f.from), anyOf(f.to)
	var err error
	if f.opts.MaxRedisMemory, err = part(f.maxMemory); err != nil {
		return err
	}
	if f.opts.Resume, err = loadState(f.state); err != nil {
		return err
	}
	base, cfg, err := f.open()
	if err != nil {
		return err
	}
	cfg.Logger = slog.New(slog.DiscardHandler) // what matters is in the error
	redis.SetLogger(silent{})
	db, err := wtcache.OpenDB(base, cfg)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // all was acknowledged
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	bar := newProgress(cmd, 0, "rows")
	f.opts.Progress = func(p wtcache.WarmProgress) {
		bar.set(p.Done.Rows, p.Total)
		if err := saveState(f.state, p); err != nil {
			stop(err)
		}
	}
	report, err := wtcache.Warm(ctx, db, f.opts)
	bar.close()
	if report.Entries == nil && err != nil {
		return err
	}
	return f.end(cmd, report, err)
}

// end prints the report and says how it ended.
func (f *warmFlags) end(cmd *cobra.Command, report wtcache.WarmReport, err error) error {
	if perr := f.print(cmd, report); perr != nil {
		return perr
	}
	if err == nil && f.state != "" {
		if err := os.Remove(f.state); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err != nil && f.state != "" && !errors.Is(err, wtcache.ErrWarmResume) && !errors.Is(err, wtcache.ErrWarmChanged) {
		err = fmt.Errorf("%w; the same command goes on from %s", err, f.state)
	}
	if errors.Is(err, wtcache.ErrRedisFull) {
		complain(cmd.ErrOrStderr(), err)
		return errFindings
	}
	return err
}

func (f *warmFlags) print(cmd *cobra.Command, r wtcache.WarmReport) error {
	if f.asJSON {
		return printJSONTo(cmd.OutOrStdout(), r)
	}
	var b strings.Builder
	p := paintOf(cmd)
	for _, e := range r.Entries {
		fmt.Fprintf(&b, "%s: %s: %s\n", p.bold(e.Entry), several(int(e.Rows), "row"), counted(e.WarmCounts))
	}
	for _, name := range r.Left {
		fmt.Fprintf(&b, "%s: left out: its key holds no unique index along which the rows could be gone through\n", p.bold(name))
	}
	state := p.good("done")
	if !r.Done {
		state = p.warn("not done")
	}
	fmt.Fprintf(&b, "%s: %s in %.1f s\n", state, several(int(r.Rows), "row"), r.Seconds)
	_, err := fmt.Fprint(cmd.OutOrStdout(), b.String())
	return err
}

// counted is "12 filled, 3 cached already", without what there is none of.
func counted(c wtcache.WarmCounts) string {
	words := []string{fmt.Sprintf("%d filled", c.Filled)}
	for _, part := range []struct {
		n    int64
		text string
	}{
		{c.Cached, "cached already"},
		{c.Refused, "left to writers and readers"},
		{c.Unstorable, "not to be stored"},
		{c.Gone, "gone meanwhile"},
	} {
		if part.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", part.n, part.text))
		}
	}
	return strings.Join(words, ", ")
}

func anyOf(texts []string) (all []any) {
	for _, text := range texts {
		all = append(all, text)
	}
	return all
}

// part reads "80%" or "0.8".
func part(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	number, percent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		n /= 100
	}
	if err != nil || n <= 0 || n > 1 {
		return 0, fmt.Errorf("--max-redis-memory is %q; write a part of Redis' maxmemory, such as 80%%", text)
	}
	return n, nil
}

// warmState is the file of --state.
type warmState struct {
	Entry  string             `json:"entry"` // under way
	Done   wtcache.WarmCounts `json:"done"`
	Resume string             `json:"resume"`
}

// loadState gives the token of a file, none where there is no file yet.
func loadState(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var state warmState
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("read the state: %s: %w", name, err)
	case state.Resume == "":
		return "", fmt.Errorf("read the state: %s is no state of wtcache warm; name another file, or remove it to begin again", name)
	}
	return state.Resume, nil
}

// saveState puts another file in the place of the old one, so that there is a whole one at any time.
func saveState(name string, p wtcache.WarmProgress) (err error) {
	if name == "" {
		return nil
	}
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
			err = fmt.Errorf("write the state: %w", err)
		}
	}()
	err = printJSONTo(file, warmState{p.Entry, p.Done, p.Resume})
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}
