package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
	"github.com/wtcache/wtcache/statuspage"
)

// statusFlags are those of status alone.
type statusFlags struct {
	asJSON bool
	watch  time.Duration
	listen string
	from   []string
}

func newStatus() *cobra.Command {
	var s settings
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how a set-up does: rules, Redis, outbox, running programs",
		Long: `status looks at a set-up from outside: the rules, Redis' condition and since when it is
known, how much waits in the outbox and for how long, which programs write past Redis just
now, and what check finds at error level. It changes nothing.

With --from it shows the counters of running programs side by side instead: each serves
package statuspage, and --from names the page or its stats.json. With --listen it serves
its own view as a page to look at, until it is interrupted; the page has no log-in.

Exit codes: 0 all is well; 1 something is unhealthy; 2 it could not be looked at (wrong
usage, settings that cannot be used, a program of --from that does not answer). A Redis or
Postgres that does not answer is unhealthy. With --watch and --listen it is 0 once it is
interrupted.`,
		Example: `  wtcache status --dsn postgres://localhost/shop --rules ./rules --redis redis://localhost:6379
  wtcache status --json | jq .outbox
  wtcache status --watch 2s
  wtcache status --from http://web-1:8080/debug/wtcache/ --from http://web-2:8080/debug/wtcache/
  wtcache status --listen 127.0.0.1:8080`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			redis.SetLogger(silent{}) // all is in the report
			switch {
			case f.listen != "":
				return listen(cmd, &s, f.listen)
			case f.watch > 0:
				return watch(cmd, f.watch, func() error { return showStatus(cmd, &s, &f) })
			}
			return showStatus(cmd, &s, &f)
		},
	}
	s.addTo(cmd)
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print one JSON object: rules, redis, outbox, findings, health; with --from one with programs; with --watch one a line")
	cmd.Flags().DurationVar(&f.watch, "watch", 0, "look again after this time, until interrupted, such as 2s")
	cmd.Flags().StringVar(&f.listen, "listen", "", "serve the page on this address, such as 127.0.0.1:8080")
	cmd.Flags().StringArrayVar(&f.from, "from", nil, "address of a program's status page; may be repeated")
	cmd.MarkFlagsMutuallyExclusive("listen", "from")
	cmd.MarkFlagsMutuallyExclusive("listen", "watch")
	cmd.MarkFlagsMutuallyExclusive("listen", "json")
	return cmd
}

// watch shows until it is interrupted. On a terminal the screen is cleared before.
func watch(cmd *cobra.Command, every time.Duration, show func() error) error {
	for {
		if isTerminal(cmd.OutOrStdout()) {
			fmt.Fprint(cmd.OutOrStdout(), "\x1b[H\x1b[2J")
		}
		if err := show(); err != nil && !errors.Is(err, errFindings) && cmd.Context().Err() == nil {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-time.After(every):
		}
	}
}

func showStatus(cmd *cobra.Command, s *settings, f *statusFlags) error {
	if len(f.from) > 0 {
		return showPrograms(cmd, f)
	}
	base, cfg, err := s.open()
	if err != nil {
		return err
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	r, err := wtcache.Status(cmd.Context(), base, cfg)
	if err != nil {
		return err
	}
	health := statuspage.HealthOf(r)
	if f.asJSON {
		err = f.printJSON(cmd.OutOrStdout(), struct {
			Health statuspage.Health `json:"health"`
			*wtcache.StatusReport
		}{health, r})
	} else {
		err = printStatus(cmd.OutOrStdout(), paintOf(cmd), r, health)
	}
	if err == nil && health.Level == statuspage.Unhealthy {
		return errFindings
	}
	return err
}

func (f *statusFlags) printJSON(w io.Writer, v any) error {
	if f.watch > 0 {
		return printJSONLineTo(w, v)
	}
	return printJSONTo(w, v)
}

func printStatus(w io.Writer, p paint, r *wtcache.StatusReport, health statuspage.Health) error {
	var b strings.Builder
	printHealth(&b, p, health)
	fmt.Fprintf(&b, "\n%s\n", p.bold("Redis"))
	if r.Redis.Error != "" {
		fmt.Fprintf(&b, "  %s\n", p.bad("does not answer"))
	}
	for _, s := range r.Redis.Servers {
		fmt.Fprintf(&b, "  %s\n", redisLine(r.Redis.Topology, s))
	}
	fmt.Fprintf(&b, "\n%s\n", p.bold("Outbox"))
	printOutbox(&b, r.Outbox)
	fmt.Fprintf(&b, "\n%s\n", p.bold("Rules"))
	for _, rule := range r.Rules {
		printRule(&b, p, rule)
	}
	if len(r.Rules) == 0 {
		fmt.Fprintf(&b, "  none (mode %s)\n", r.Mode)
	}
	warnings := count(r.Findings, cachesync.Warning)
	if warnings > 0 {
		fmt.Fprintf(&b, "\nwtcache check has %s more to say.\n", several(warnings, "warning"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printHealth(b *strings.Builder, p paint, h statuspage.Health) {
	colour := map[statuspage.Level]func(string) string{statuspage.Healthy: p.good, statuspage.Warning: p.warn, statuspage.Unhealthy: p.bad}
	fmt.Fprintf(b, "%s\n", colour[h.Level](strings.ToUpper(string(h.Level))))
	for _, s := range h.Signs {
		fmt.Fprintf(b, "  %s: %s\n    %s\n", colour[s.Level](string(s.Level)), s.Title, strings.ReplaceAll(s.Text, "\n", "\n    "))
	}
}

func redisLine(topology cachesync.Topology, s wtcache.RedisServer) string {
	words := []string{strings.TrimSpace(s.Software + " " + s.Version), string(topology), s.Role, "up " + seconds(s.UptimeSeconds), "policy " + s.Policy}
	switch {
	case s.Always:
		words = append(words, "known since ever")
	case s.Epoch != nil:
		words = append(words, "known since "+s.Epoch.Format(time.DateTime))
	default:
		words = append(words, "not met by a program yet")
	}
	return s.Name + ": " + strings.Join(words, ", ")
}

func printOutbox(b *strings.Builder, o wtcache.OutboxStatus) {
	switch {
	case !o.Needed:
		b.WriteString("  no rule needs one\n")
		return
	case o.Error != "":
		b.WriteString("  cannot be read\n")
		return
	case o.Rows == 0:
		b.WriteString("  empty\n")
	default:
		fmt.Fprintf(b, "  %s, the oldest for %s\n", several(int(o.Rows), "row"), seconds(o.OldestSeconds))
	}
	for _, out := range o.Outages {
		fmt.Fprintf(b, "  outage: %s writes past Redis for %s, last alive %s ago\n", out.Process, seconds(out.ForSeconds), seconds(out.SilentSeconds))
	}
}

func printRule(b *strings.Builder, p paint, r wtcache.RuleInfo) {
	capture := r.Capture
	if r.CaptureReason != "" {
		capture = p.warn(capture + ": " + r.CaptureReason)
	}
	fmt.Fprintf(b, "  %s  %s\n", p.note(r.Table), p.dim(fmt.Sprintf("%s, %sredis_down: %s, capture: ", r.Consistency, ifAsync("apply: async, ", r.Apply), r.RedisDown))+capture)
	for _, e := range r.Entries {
		fmt.Fprintf(b, "    %s  %s\n", e.Key, p.dim(fmt.Sprintf("%s, %s, ttl %s", e.Format, e.Strategy, seconds(e.TTLSeconds))))
	}
	for _, key := range r.Invalidate {
		fmt.Fprintf(b, "    %s  %s\n", key, p.dim("shared: made absent"))
	}
}

// seconds gives a duration without needless digits.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d >= time.Second {
		d = d.Round(time.Second)
	} else {
		d = d.Round(time.Millisecond)
	}
	return shortUnits(d)
}

// shortUnits gives 10m instead of 10m0s.
func shortUnits(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// ifAsync gives the words that say so of a rule.
func ifAsync(words string, apply rules.Apply) string {
	if apply == rules.Async {
		return words
	}
	return ""
}
