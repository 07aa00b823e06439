package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const usage = `usage: bench run [flags]             measure; "bench run -h" lists the flags
       bench report [flags] RESULTS  tables and plots from what run wrote`

func command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	switch args[0] {
	case "run":
		return runCommand(ctx, args[1:], stdout, stderr)
	case "report":
		return reportCommand(args[1:], stdout, stderr)
	}
	return fmt.Errorf("there is no %q\n%s", args[0], usage)
}

func runCommand(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("bench run", flag.ContinueOnError)
	flags.SetOutput(stderr)
	names := flags.String("measures", "", "which, by name, with commas between; all by default")
	ways := flags.String("ways", "", "which, by name, with commas between, beside each measure's first; all by default")
	conns := flags.String("conns", "1,8,32", "connections at a time")
	rounds := flags.Int("rounds", 20, "how often each way has its turn")
	slice := flags.Duration("slice", 300*time.Millisecond, "how long a turn is")
	trials := flags.Int("trials", 7, "rounds of measures whose executions take long")
	out := flags.String("o", "", "the file for the results; standard output by default")
	if err := flags.Parse(args); err != nil {
		return err
	}
	some, err := of(*names)
	if err != nil {
		return err
	}
	p := plan{rounds: *rounds, slice: *slice, trials: *trials}
	if *ways != "" {
		p.ways = strings.Split(*ways, ",")
	}
	for text := range strings.SplitSeq(*conns, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-conns: %q is no number of connections", text)
		}
		p.conns = append(p.conns, n)
	}
	to := stdout
	if *out != "" {
		f, err := os.Create(*out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		to = f
	}
	s, err := startServers(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	o := newOutput(to, s)
	return run(ctx, s, some, p, stderr, o.write)
}
