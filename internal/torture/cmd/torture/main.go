// Command torture does to wtcache, and to caches written by hand, what production does, and counts what readers were told that
// was not true; docs/TORTURE.md says how to read it.
//
// The exit code is 0 where nothing was wrong, 1 where a promise was broken, and 2 where nothing was shown.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/wtcache/wtcache/internal/torture"
)

func main() {
	torture.Main()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitWrong   = 1
	exitNothing = 2
)

// settings are name=value pairs, given one by one.
type settings map[string]string

func (s settings) String() string { return "" }

func (s settings) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("%q is not like wtcache_redis_timeout=100ms", text)
	}
	s[name] = value
	return nil
}

func run(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("torture", flag.ContinueOnError)
	o := torture.Options{Settings: map[string]string{}}
	var plan torture.Plan
	flags.DurationVar(&plan.Time, "time", 2*time.Minute, "go on for so long")
	flags.BoolVar(&plan.Once, "once", true, "have each nemesis strike once by itself before the random sequences")
	nemeses := flags.String("nemesis", "", "only these, separated by commas (default: all)")
	list := flags.Bool("list", false, "list the nemeses and end")
	asJSON := flags.Bool("json", false, "write the report as JSON to the standard output, and the lines to the standard error")
	topology := flags.String("topology", string(torture.Single), "single, sentinel or cluster")
	mode := flags.String("mode", string(torture.Through), "wtcache, or a cache written by hand: dualwrite or cacheaside")
	flags.Uint64Var(&o.Seed, "seed", 0, "of all that is drawn (default: drawn, and printed)")
	flags.IntVar(&o.Writers, "writers", 2, "writing processes")
	flags.IntVar(&o.Readers, "readers", 2, "reading processes")
	flags.IntVar(&o.Clients, "clients", 3, "clients of each process")
	flags.DurationVar(&o.FenceLife, "fence", 2*time.Second, "life of fences")
	flags.StringVar(&o.Keep, "keep", "", "folder in which to keep the history of what was wrong")
	flags.StringVar(&o.Folder, "folder", "", "folder in which processes write histories and logs while they run (default: one that is removed)")
	flags.StringVar(&o.Rule, "rule", "", "further lines of every rule file")
	flags.Var(settings(o.Settings), "set", "a further key of the DSN, like wtcache_redis_timeout=100ms; may be repeated")
	if err := flags.Parse(args); err != nil {
		return exitNothing
	}
	o.Topology, o.Mode = torture.Topology(*topology), torture.Mode(*mode)
	if *list {
		fmt.Println(strings.Join(torture.Names(o), "\n"))
		return 0
	}
	if *nemeses != "" {
		plan.Nemeses = strings.Split(*nemeses, ",")
	}
	o.Out = os.Stdout
	if *asJSON {
		o.Out = os.Stderr
	}
	report, err := torture.Play(ctx, o, plan)
	if *asJSON {
		if err := report.WriteJSON(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "torture:", err)
		}
	}
	switch {
	case err != nil && ctx.Err() == nil:
		fmt.Fprintln(os.Stderr, "torture:", err)
		return exitNothing
	case report.Wrong():
		return exitWrong
	}
	return 0
}
