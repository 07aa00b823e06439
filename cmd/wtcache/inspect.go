package main

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache"
)

func newInspect() *cobra.Command {
	var s settings
	var o wtcache.InspectOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect KEY... | ENTRY VALUE...",
		Short: "Tell what is stored under a key, and whether it is right",
		Long: `inspect tells of a key in Redis which entry of which rule it belongs to, what is stored
there and in what state, whether readers are served it and why not, and what control state
there is: fences of commits under way, a reader's lease. Instead of a key it takes an entry of a rule and
the values of its key's columns. It changes nothing, and prints what is stored only with
--payload.

Exit codes: 0 nothing is wrong; 1 an entry is damaged or foreign or, with --compare, not as
its row is; 2 it could not be looked at (wrong usage, settings that cannot be used, a
server that does not answer).`,
		Example: `  wtcache inspect user:42
  wtcache inspect users.by_id 42 --compare
  wtcache inspect user:42 user:43 --json
  wtcache inspect user:42 --payload`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := inspect(cmd, &s, args, o)
			if err != nil {
				return err
			}
			if err := printInspections(cmd, found, asJSON); err != nil {
				return err
			}
			if slices.ContainsFunc(found, isWrong) {
				return errFindings
			}
			return nil
		},
	}
	s.addTo(cmd)
	cmd.Flags().BoolVar(&o.Compare, "compare", false, "compare with the row in the database")
	cmd.Flags().BoolVar(&o.Payload, "payload", false, "print what is stored")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object; of several keys one a line")
	return cmd
}

func inspect(cmd *cobra.Command, s *settings, args []string, o wtcache.InspectOptions) ([]*wtcache.Inspection, error) {
	db, err := s.openDB()
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }() // nothing was written through it
	values := make([]any, len(args)-1)
	for i, arg := range args[1:] {
		values[i] = arg
	}
	switch key, err := wtcache.KeyOf(cmd.Context(), db, args[0], values...); {
	case err == nil:
		args = []string{key}
	case !errors.Is(err, wtcache.ErrUnknownEntry) || len(args) > 1 && isOfRule(db, args[0]):
		return nil, err
	}
	found := make([]*wtcache.Inspection, len(args))
	for i, key := range args {
		if found[i], err = wtcache.Inspect(cmd.Context(), db, key, o); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// isOfRule says that a name begins like that of an entry: with a table that has a rule.
func isOfRule(db *sql.DB, name string) bool {
	all, err := wtcache.RulesOf(db)
	return err == nil && slices.ContainsFunc(all, func(r wtcache.RuleInfo) bool {
		_, bare, _ := strings.Cut(r.Table, ".")
		for _, table := range []string{r.Table, bare} {
			if name == table || strings.HasPrefix(name, table+".") {
				return true
			}
		}
		return false
	})
}

func isWrong(i *wtcache.Inspection) bool {
	return i.State == "damaged" || i.State == "foreign" || i.Row == "stale" || i.Row == "orphan"
}

func printInspections(cmd *cobra.Command, found []*wtcache.Inspection, asJSON bool) error {
	out := cmd.OutOrStdout()
	for n, i := range found {
		var err error
		switch {
		case asJSON && len(found) > 1:
			err = printJSONLineTo(out, i)
		case asJSON:
			err = printJSONTo(out, i)
		default:
			if n > 0 {
				fmt.Fprintln(out)
			}
			err = printInspection(out, paintOf(cmd), i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func printInspection(out io.Writer, p paint, i *wtcache.Inspection) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("key", "%s", i.Key)
	if i.Entry == "" {
		line("entry", "none: %s", i.WhyNot)
		return w.Flush()
	}
	var values []string
	for _, column := range slices.Sorted(maps.Keys(i.Values)) {
		values = append(values, column+" = "+i.Values[column])
	}
	line("entry", "%s (%s), %s", i.Entry, i.Rule, strings.Join(values, ", "))
	state := i.State
	if isWrong(i) {
		state = p.bad(state)
	}
	line("state", "%s", state)
	if i.Served {
		line("served", "yes")
	} else {
		line("served", "no: %s", i.WhyNot)
	}
	printStored(line, i)
	printControl(line, i)
	if i.Row != "" {
		text := i.Row
		if text == "row" {
			text = "there is one"
		}
		if len(i.Differs) > 0 {
			text += "; differs in " + strings.Join(i.Differs, ", ")
		}
		line("row", "%s", text)
	}
	if i.Payload != nil {
		line("payload", "%s", i.Payload)
	}
	return w.Flush()
}

func printStored(line func(name, format string, args ...any), i *wtcache.Inspection) {
	if i.Type == "" {
		return
	}
	line("type", "%s", i.Type)
	if i.TTLSeconds != nil {
		line("expires in", "%s (the rule's ttl is %s)", briefly(*i.TTLSeconds), briefly(i.RuleTTLSeconds))
	} else {
		line("expires", "never (the rule's ttl is %s)", briefly(i.RuleTTLSeconds))
	}
	if i.Format == "" {
		return
	}
	line("format", "%s (the rule's: %s)", i.Format, i.WantedFormat)
	line("schema", "%s (the rule's: %s)", i.Schema, i.WantedSchema)
	line("payload size", "%s", several(i.SizeBytes, "byte"))
	if i.WrittenAt != nil {
		line("written", "%s, %s", i.WrittenAt.UTC().Format(time.RFC3339Nano), ago(i.AgeSeconds))
	}
	version := i.Version
	if strings.Trim(version, "0") == "" {
		version = "0: a reader has filled it"
	}
	line("version", "%s", version)
	line("checksum", "%s", fits(i.ChecksumOK))
	line("epoch", "%s", map[bool]string{true: "nothing was lost since", false: "not trusted"}[i.EpochTrusted])
}

func fits(ok bool) string {
	if ok {
		return "fits"
	}
	return "does not fit, or is not known"
}

func printControl(line func(name, format string, args ...any), i *wtcache.Inspection) {
	for _, left := range i.FenceSeconds {
		line("fence", "a writer's token, %s left", briefly(left))
	}
	if i.FenceDirty {
		line("fence", "dirty: it will end without a value")
	}
	if i.LeaseSeconds > 0 {
		line("lease", "a reader is about to fill it, %s left", briefly(i.LeaseSeconds))
	}
	for _, left := range i.BarrierSeconds {
		line("barrier", "a coarse write of the rule is under way, %s left", briefly(left))
	}
	if i.Owed {
		line("owed", "yes")
	}
}
