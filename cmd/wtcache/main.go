// Command wtcache checks a set-up of the wtcache driver before a program runs into its faults.
//
//	wtcache check --dsn postgres://localhost/shop --rules ./rules --redis redis://localhost:6379
//
// One file holds one command; each adds itself in newRoot. See wtcache --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitFine     = 0
	exitFindings = 1 // what was looked at is at fault
	exitTrouble  = 2 // it could not be looked at: wrong usage, wrong settings, a server that does not answer
)

// errFindings ends a command whose output has said all.
var errFindings = errors.New("there are findings at error level")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	switch err := root.ExecuteContext(ctx); {
	case err == nil:
		return exitFine
	case errors.Is(err, errFindings):
		return exitFindings
	default:
		complain(stderr, err)
		return exitTrouble
	}
}

// complain prints an error. Many begin with the name already.
func complain(stderr io.Writer, err error) {
	fmt.Fprintln(stderr, "wtcache:", strings.TrimPrefix(err.Error(), "wtcache: "))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "wtcache",
		Short: "Check and tend a wtcache set-up",
		Long: `wtcache keeps Redis true to Postgres from inside the Go database driver. This command
looks after what the driver needs: its rules, its database and its Redis.

Exit codes: 0 all is fine; 1 there are findings at error level; 2 it could not be
looked at (wrong usage, settings that cannot be used, a server that does not answer).`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newCheck(), newSchema(), newDrain(), newVersion())
	return root
}
