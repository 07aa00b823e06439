package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache/statuspage"
)

const (
	programPatience = 20 * time.Second
	maxStats        = 16 << 20 // bytes of a stats.json
)

// program is what one of --from said.
type program struct {
	From   string             `json:"from"`
	Report *statuspage.Report `json:"report,omitempty"`
	Error  string             `json:"error,omitempty"`
}

func showPrograms(cmd *cobra.Command, f *statusFlags) error {
	all := make([]program, len(f.from))
	var wg sync.WaitGroup
	for i, from := range f.from {
		wg.Go(func() { all[i] = askProgram(cmd.Context(), from) })
	}
	wg.Wait()
	var err error
	if f.asJSON {
		err = f.printJSON(cmd.OutOrStdout(), map[string]any{"programs": all})
	} else {
		err = printPrograms(cmd.OutOrStdout(), paintOf(cmd), all)
	}
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Report == nil {
			return fmt.Errorf("%s could not be looked at: %s", p.From, p.Error)
		}
	}
	for _, p := range all {
		if p.Report.Health.Level == statuspage.Unhealthy {
			return errFindings
		}
	}
	return nil
}

// statsAddress takes the page's address, with or without its slash, or that of its stats.json.
func statsAddress(from string) (string, error) {
	if !strings.Contains(from, "://") {
		from = "http://" + from
	}
	u, err := url.Parse(from)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("--from %q is no address of a page; write such as http://web-1:8080/debug/wtcache/", from)
	}
	if !strings.HasSuffix(u.Path, "stats.json") {
		u.Path = strings.TrimSuffix(u.Path, "/") + "/stats.json"
	}
	return u.String(), nil
}

func askProgram(ctx context.Context, from string) program {
	p := program{From: redacted(from)}
	report, err := fetchReport(ctx, from)
	if err != nil {
		p.Error = err.Error()
		return p
	}
	p.Report = report
	return p
}

// redacted leaves out a password.
func redacted(from string) string {
	if u, err := url.Parse(from); err == nil {
		return u.Redacted()
	}
	return from
}

func fetchReport(ctx context.Context, from string) (*statuspage.Report, error) {
	address, err := statsAddress(from)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, programPatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	var report statuspage.Report
	err = json.NewDecoder(io.LimitReader(got.Body, maxStats)).Decode(&report)
	switch {
	case got.StatusCode != http.StatusOK && (err != nil || report.Health.Level == ""):
		return nil, fmt.Errorf("it answers %s", got.Status)
	case err != nil || report.Health.Level == "":
		return nil, fmt.Errorf("what it serves is no stats.json of package statuspage")
	}
	return &report, nil
}

// programLines are what is shown of each program: a path in its counters.
var programLines = []struct{ title, path string }{
	{"precise writes", "precise_writes"}, {"coarse writes", "coarse_writes"}, {"not followed", "uncaptured"}, {"committed", "committed"},
	{"refused", "refused"}, {"queued", "queued"}, {"in doubt", "in_doubt"}, {"hits", "hits"}, {"misses", "misses"}, {"fills", "fills"},
	{"fence failures", "redis.fence_failures"}, {"owed", "redis.owed"}, {"outages of Redis", "redis.breaker_opens"},
	{"outbox rows", "outbox.depth"}, {"background errors", "background_errors"},
}

func printPrograms(w io.Writer, p paint, all []program) error {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(title string, cell func(program) string) {
		fmt.Fprint(table, title, "\t")
		for _, one := range all {
			if one.Report == nil {
				fmt.Fprint(table, "?\t")
				continue
			}
			fmt.Fprint(table, cell(one), "\t")
		}
		fmt.Fprintln(table)
	}
	fmt.Fprint(table, "\t")
	for i := range all {
		fmt.Fprintf(table, "(%d)\t", i+1)
	}
	fmt.Fprintln(table)
	row("health", func(one program) string { return string(one.Report.Health.Level) })
	for _, l := range programLines {
		row(l.title, func(one program) string { return cell(one.Report.Counters, l.path) })
	}
	row("hit rate", func(one program) string { return percentOf(latest(one.Report).HitRatio) })
	row("write p95", func(one program) string { return secondsOf(latest(one.Report).WriteP95) })
	row("served age p95", func(one program) string { return secondsOf(latest(one.Report).AgeP95) })
	if err := table.Flush(); err != nil {
		return err
	}
	for i, one := range all {
		fmt.Fprintf(&b, "\n(%d) %s", i+1, p.note(one.From))
		if one.Report == nil {
			fmt.Fprintf(&b, "  %s\n", p.bad(one.Error))
			continue
		}
		fmt.Fprintf(&b, "  %s\n", one.Report.Name)
		printHealth(&b, p, one.Report.Health)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func latest(r *statuspage.Report) statuspage.Sample {
	if len(r.Samples) == 0 {
		return statuspage.Sample{}
	}
	return r.Samples[len(r.Samples)-1]
}

// cell finds a number by its path.
func cell(counters map[string]any, path string) string {
	name, rest, deeper := strings.Cut(path, ".")
	switch v := counters[name].(type) {
	case map[string]any:
		if deeper {
			return cell(v, rest)
		}
	case float64:
		return fmt.Sprintf("%.0f", v)
	}
	return "-"
}

func percentOf(f *float64) string {
	if f == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", *f*100)
}

func secondsOf(f *float64) string {
	if f == nil {
		return "-"
	}
	return seconds(*f)
}
