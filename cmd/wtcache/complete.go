package main

import (
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/rules"
)

// entryNames completes what a reader calls the entries, users or users.by_email, from the rule files; no server is asked.
func entryNames(s *settings) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var names []cobra.Completion
		for _, rule := range ruleFiles(s) {
			for _, entry := range rule.Entries {
				name := rule.Table.Table
				if len(rule.Entries) > 1 {
					name += "." + entry.Name
				}
				if !slices.Contains(args, name) {
					names = append(names, cobra.CompletionWithDesc(name, entry.Key.String()))
				}
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// ruleFiles reads the rule files that the settings name. Where that cannot be done there is nothing to complete.
func ruleFiles(s *settings) []*rules.Rule {
	cfg := wtcache.Config{RulesPath: os.Getenv("WTCACHE_RULES")}
	if dsn, err := dsnOr(s.dsn); err == nil {
		if _, parsed, err := wtcache.ParseDSN(dsn); err == nil {
			cfg = parsed
		}
	}
	s.override(&cfg)
	all, err := rules.LoadPath(cfg.RulesPath)
	if err != nil {
		return nil
	}
	return all
}
