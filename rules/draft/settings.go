package draft

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/rules"
)

// askSettings finds the conditions on settings that this session does not meet. The
// programs' sessions will hardly meet them either, so that entries with such columns would
// never be stored.
func (d *drafter) askSettings(ctx context.Context, q rules.Querier) error {
	var all []string
	for _, r := range d.all {
		for _, c := range r.Columns {
			if condition := d.catalog.PayloadCondition(r.name(), c.Name); condition != "" && !slices.Contains(all, condition) {
				all = append(all, condition)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	rows, err := q(ctx, "SELECT ("+strings.Join(all, ")::pg_catalog.text, (")+")::pg_catalog.text")
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	if len(rows) != 1 || len(rows[0]) != len(all) {
		return errors.New("read settings: the server did not give one answer a question")
	}
	for i, met := range rows[0] {
		if met == nil || *met != "true" {
			d.unmet = append(d.unmet, all[i])
		}
	}
	return nil
}

var settingName = regexp.MustCompile(`current_setting\('(\w+)'\)`)

// settingFault says why a column had better not stand in a payload here.
func (d *drafter) settingFault(table rules.Name, column string) string {
	condition := d.catalog.PayloadCondition(table, column)
	if !slices.Contains(d.unmet, condition) {
		return ""
	}
	var found []string
	for _, m := range settingName.FindAllStringSubmatch(condition, -1) {
		found = append(found, m[1])
	}
	return "its text depends on " + strings.Join(found, " and ") + ": with the settings of this session, entries with it would never be stored"
}
