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
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wtcache/wtcache/rules"
)

//go:generate go test -run TestDocs -update .

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
	context.AfterFunc(ctx, stop) // a second interrupt ends the process, whatever keeps the command
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

// orInterrupted does work that no context reaches, such as waiting for a line, or leaves it behind when the
// command is interrupted.
func orInterrupted[T any](ctx context.Context, work func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := work()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// complain prints an error. Many begin with the name already.
func complain(stderr io.Writer, err error) {
	fmt.Fprintln(stderr, "wtcache:", strings.TrimPrefix(err.Error(), "wtcache: "))
}

// groups are the parts of the help, each with its commands in the order in which a user meets them.
var groups = []struct {
	id, title string
	commands  []string
}{
	{"setup", "Set up:", []string{"init", "schema", "check"}},
	{"look", "Look:", []string{"explain", "audit", "inspect", "status"}},
	{"do", "Do:", []string{"warm", "drain"}},
	{"other", "Other:", []string{"version", "completion", "help"}},
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "wtcache",
		Short: "Check and tend a wtcache set-up",
		Long: `wtcache keeps Redis true to Postgres from inside the Go database driver. This command
looks after what the driver needs: its rules, its database and its Redis.

Every command reads its settings as the program does: from flags, else from the wtcache_
keys of the DSN, else from the environment (WTCACHE_DSN or DATABASE_URL, WTCACHE_REDIS,
WTCACHE_RULES). Every command has --json, which prints an object on stdout; progress and
complaints go to stderr.

Exit codes: 0 all is fine; 1 what was looked at is at fault, such as findings at error
level; 2 it could not be looked at (wrong usage, settings that cannot be used, a server
that does not answer).`,
		Example: `  wtcache check --dsn postgres://localhost/shop --rules ./rules --redis redis://localhost:6379
  wtcache schema | psql "$DATABASE_URL"
  source <(wtcache completion bash)`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("wtcache {{.Version}}\n")
	addOutputFlags(root)
	root.SetFlagErrorFunc(suggestFlag)
	root.AddCommand(newCheck(), newExplain(), newSchema(), newDrain(), newVersion(), newWarm(), newInit(), newAudit(), newInspect(), newStatus())
	arrange(root)
	return root
}

// arrange puts the commands into the groups of the help.
func arrange(root *cobra.Command) {
	cobra.EnableCommandSorting = false
	root.SetCompletionCommandGroupID("other")
	root.SetHelpCommandGroupID("other")
	rank := func(c *cobra.Command) int {
		for g, group := range groups {
			if i := slices.Index(group.commands, c.Name()); i >= 0 {
				c.GroupID = group.id
				return 100*g + i
			}
		}
		c.GroupID = "other"
		return 100 * len(groups)
	}
	all := slices.Clone(root.Commands())
	slices.SortStableFunc(all, func(a, b *cobra.Command) int { return rank(a) - rank(b) })
	root.RemoveCommand(all...)
	root.AddCommand(all...)
	for _, group := range groups {
		if slices.ContainsFunc(all, func(c *cobra.Command) bool { return c.GroupID == group.id }) || group.id == "other" {
			root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		}
	}
}

// suggestFlag adds to the complaint about an unknown flag the one that was meant.
func suggestFlag(cmd *cobra.Command, err error) error {
	hint := fmt.Sprintf("see %s --help", cmd.CommandPath())
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near, ok := rules.Nearest(unknown.GetSpecifiedName(), names); ok {
			hint = "did you mean --" + near + "?"
		}
	}
	return fmt.Errorf("%w; %s", err, hint)
}
