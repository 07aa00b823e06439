package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/wtcacheprom"
)

type auditFlags struct {
	settings
	all, repair, asJSON bool
	sample, rows        int
	rate                float64
	threshold, metrics  string
	every, grace        time.Duration
}

func newAudit() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit [TABLE | TABLE.ENTRY]...",
		Short: "Compare entries in Redis with their rows in Postgres",
		Long: `audit takes entries from Redis, all or a sample, and compares each with its row: the bytes,
the checksum, the schema, the rule's "when", its age and its expiry. Writes that go on meanwhile raise no
false alarm: what differs is looked at again until it is certain. It takes some rows from
random pages of each table as well, to tell how many of them are cached. It prints keys,
and never what is stored.

It changes nothing, unless --repair is given: then keys with a fault become absent, also those
that hold what another program keeps under the key of a row.

Of the entries whose row last changed at least N seconds before, it prints the percentage that
was right (Polaris' figure). With track_commit_timestamp = on in Postgres that is exact;
without, the time of the change is taken from the entry, so that the figure is never better
than the truth for stale entries.

With --every it goes on until it is interrupted. Of several that run beside each other, in
programs or here, one at a time audits. --json prints one object a line then.

Exit codes: 0 no more faults than --threshold allows; 1 there are more (they count also
where they were repaired); 2 it could not be looked at (wrong usage, settings that cannot
be used, a server that does not answer).`,
		Example: `  wtcache audit --dsn postgres://localhost/shop --rules ./rules --redis redis://localhost:6379
  wtcache audit users --all --rate 2000
  wtcache audit users.by_email --sample 200 --threshold 0.01%
  wtcache audit --all --repair
  wtcache audit --every 1m --metrics :9187
  wtcache audit --every 1m --json | jq -c '.total | {checked, faulty}'`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	f.addTo(cmd)
	flags := cmd.Flags()
	flags.IntVar(&f.sample, "sample", 1000, "about how many keys to look at of each entry")
	flags.BoolVar(&f.all, "all", false, "look at every key")
	flags.IntVar(&f.rows, "rows", 1000, "how many rows to take from each table, to see how many are cached; 0 for none")
	flags.Float64Var(&f.rate, "rate", 10000, "keys to look at in a second; 0 for no bound")
	flags.BoolVar(&f.repair, "repair", false, "make keys with a fault absent")
	flags.StringVar(&f.threshold, "threshold", "0", "faults to put up with: a number of keys, or a percentage such as 0.01%")
	flags.DurationVar(&f.every, "every", 0, "audit again and again, so often, until interrupted")
	flags.StringVar(&f.metrics, "metrics", "", "with --every: serve Prometheus metrics at this address, such as :9187, under /metrics")
	flags.DurationVar(&f.grace, "grace", 0, "how long an entry of a rule with consistency: eventual may be old (default 5s)")
	flags.BoolVar(&f.asJSON, "json", false, "print the report as one JSON object")
	cmd.MarkFlagsMutuallyExclusive("all", "sample")
	return cmd
}

func (f *auditFlags) options(args []string) (wtcache.AuditOptions, error) {
	o := wtcache.AuditOptions{Entries: args, Sample: f.sample, Rows: cmp.Or(f.rows, -1), Rate: f.rate, Repair: f.repair, Grace: f.grace}
	if f.all {
		o.Sample = 0
	}
	var err error
	o.Threshold, err = wtcache.ParseAuditThreshold(f.threshold)
	switch {
	case err != nil:
		return o, err
	case f.sample < 1:
		return o, fmt.Errorf("--sample %d is no sample; --all looks at every key", f.sample)
	case f.rate < 0:
		return o, fmt.Errorf("--rate %v is below 0", f.rate)
	case f.metrics != "" && f.every == 0:
		return o, errors.New("--metrics is for an audit that goes on; add --every 1m")
	case f.every < 0:
		return o, fmt.Errorf("--every %v is below 0", f.every)
	}
	return o, nil
}

func (f *auditFlags) run(cmd *cobra.Command, args []string) error {
	opts, err := f.options(args)
	if err != nil {
		return err
	}
	db, err := f.openDB()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // nothing was written through it
	if f.every > 0 {
		return f.again(cmd, db, opts)
	}
	bar := newProgress(cmd, 0, "keys")
	opts.Progress = bar.set
	report, err := wtcache.Audit(cmd.Context(), db, opts)
	bar.close()
	if report != nil {
		if perr := f.print(cmd, report); perr != nil {
			return perr
		}
	}
	if err == nil && report.OverThreshold {
		err = errFindings
	}
	return err
}

// again audits until it is interrupted, which is no fault.
func (f *auditFlags) again(cmd *cobra.Command, db *sql.DB, opts wtcache.AuditOptions) error {
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	if f.metrics != "" {
		end, err := serveMetrics(ctx, db, f.metrics)
		if err != nil {
			return err
		}
		defer end()
	}
	var over bool
	var fault error
	wtcache.AuditEvery(ctx, db, f.every, opts, func(r *wtcache.AuditReport, err error) {
		switch {
		case ctx.Err() != nil:
		case err != nil:
			complain(cmd.ErrOrStderr(), err) // the next one may succeed
		default:
			over = over || r.OverThreshold
			if fault = f.print(cmd, r); fault != nil {
				stop()
			}
		}
	})
	if fault == nil && over {
		fault = errFindings
	}
	return fault
}

// serveMetrics serves what this process counts, the latest audit among it, until end is called.
func serveMetrics(ctx context.Context, db *sql.DB, address string) (end func(), err error) {
	collector, err := wtcacheprom.NewCollector(db)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(collector); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve --metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // until Close
	return func() { _ = server.Close() }, nil
}

// openDB opens the database as the program does. What matters of the log is in the errors.
func (s *settings) openDB() (*sql.DB, error) {
	base, cfg, err := s.open()
	if err != nil {
		return nil, err
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	redis.SetLogger(silent{})
	db, err := wtcache.OpenDB(base, cfg)
	if err == nil {
		db.SetMaxOpenConns(2)
	}
	return db, err
}

func (f *auditFlags) print(cmd *cobra.Command, r *wtcache.AuditReport) error {
	out := cmd.OutOrStdout()
	switch {
	case f.asJSON && f.every > 0:
		return printJSONLineTo(out, r)
	case f.asJSON:
		return printJSONTo(out, r)
	}
	var b strings.Builder
	p := paintOf(cmd)
	auditTable(&b, r)
	for _, e := range r.Entries {
		for _, x := range e.Examples {
			fmt.Fprintf(&b, "%s %s %s%s\n", p.bad(x.Fault), x.Key, p.dim("("+e.Entry+")"), exampleText(x))
		}
	}
	auditAges(&b, r)
	auditWithin(&b, r)
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "%s %s\n", p.warn("note:"), note)
	}
	verdict := p.good("no faults")
	if r.Total.Faulty > 0 {
		verdict = p.bad(several(int(r.Total.Faulty), "key") + " at fault")
	}
	if r.Unfinished != "" {
		verdict = p.warn("not finished") + ": " + verdict + " so far"
	}
	fmt.Fprintf(&b, "%s, %s checked in %.1f s", verdict, several(int(r.Total.Checked), "key"), r.DurationSeconds)
	if f.repair {
		fmt.Fprintf(&b, ", %d made absent", r.Total.Repaired)
	}
	_, err := io.WriteString(out, b.String()+"\n")
	return err
}

// auditTable has a line for each entry, and columns for what occurs.
func auditTable(w io.Writer, r *wtcache.AuditReport) {
	columns := []struct {
		name   string
		always bool
		of     func(wtcache.AuditCounts) int64
	}{
		{"checked", true, func(c wtcache.AuditCounts) int64 { return c.Checked }},
		{"consistent", true, func(c wtcache.AuditCounts) int64 { return c.Consistent }},
		{"stale", true, func(c wtcache.AuditCounts) int64 { return c.Stale }},
		{"orphan", true, func(c wtcache.AuditCounts) int64 { return c.Orphan }},
		{"damaged", true, func(c wtcache.AuditCounts) int64 { return c.Damaged }},
		{"foreign", false, func(c wtcache.AuditCounts) int64 { return c.Foreign }},
		{"no ttl", false, func(c wtcache.AuditCounts) int64 { return c.NoTTL }},
		{"over ttl", false, func(c wtcache.AuditCounts) int64 { return c.OverTTL }},
		{"ahead", false, func(c wtcache.AuditCounts) int64 { return c.Ahead }},
		{"other schema", false, func(c wtcache.AuditCounts) int64 { return c.OtherSchema }},
		{"fenced", false, func(c wtcache.AuditCounts) int64 { return c.Fenced }},
		{"gone", false, func(c wtcache.AuditCounts) int64 { return c.Gone }},
		{"unserved", false, func(c wtcache.AuditCounts) int64 { return c.Unserved }},
		{"undecided", false, func(c wtcache.AuditCounts) int64 { return c.Undecided }},
		{"unjudged", false, func(c wtcache.AuditCounts) int64 { return c.Unjudged }},
		{"skipped", false, func(c wtcache.AuditCounts) int64 { return c.Skipped }},
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "entry")
	for _, c := range columns {
		if c.always || c.of(r.Total) > 0 {
			fmt.Fprint(t, "\t"+c.name)
		}
	}
	fmt.Fprintln(t, "\tcached rows")
	for _, e := range r.Entries {
		fmt.Fprint(t, e.Entry)
		for _, c := range columns {
			if c.always || c.of(r.Total) > 0 {
				fmt.Fprintf(t, "\t%d", c.of(e.AuditCounts))
			}
		}
		covered := "-"
		if e.Rows > 0 {
			covered = fmt.Sprintf("%.0f %% of %d", 100*float64(e.Rows-e.Absent)/float64(e.Rows), e.Rows)
		}
		fmt.Fprintln(t, "\t"+covered)
	}
	_ = t.Flush() // to a buffer
}

func exampleText(x wtcache.AuditExample) string {
	text := ""
	if x.AgeSeconds > 0 {
		text += ", stored " + ago(x.AgeSeconds)
	}
	if x.StaleSeconds > 0 {
		text += ", wrong for at least " + briefly(x.StaleSeconds)
	}
	if x.Repaired {
		text += ", made absent"
	}
	return text
}

func ago(seconds float64) string { return briefly(seconds) + " ago" }

func briefly(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d > time.Second {
		return d.Round(time.Second).String()
	}
	return d.Round(time.Millisecond).String()
}

// auditAges is a histogram of all entries.
func auditAges(w io.Writer, r *wtcache.AuditReport) {
	if len(r.Entries) == 0 {
		return
	}
	bounds, sums, most := r.Entries[0].Ages.BoundsSeconds, make([]int64, len(r.Entries[0].Ages.Counts)), int64(0)
	for _, e := range r.Entries {
		for i, n := range e.Ages.Counts {
			sums[i] += n
			most = max(most, sums[i])
		}
	}
	if most == 0 {
		return
	}
	fmt.Fprintln(w, "ages")
	for i, n := range sums {
		if n == 0 {
			continue
		}
		label := "older"
		if i < len(bounds) {
			label = "to " + briefly(bounds[i])
		}
		fmt.Fprintf(w, "  %-12s %8d %s\n", label, n, strings.Repeat("#", int(1+39*n/most)))
	}
}

func auditWithin(w io.Writer, r *wtcache.AuditReport) {
	for _, in := range r.Within {
		if in.Share != nil {
			fmt.Fprintf(w, "%.4g %% of %s right within %s\n", 100**in.Share, several(int(in.Changes), "change"), briefly(in.Seconds))
		}
	}
}
