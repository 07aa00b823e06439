package rules

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// knownRelation is a relation that a mistyped name may have meant.
type knownRelation struct {
	Schema, Name, Kind string
}

const maxKnown = 5000

// loadNames lists the database's relations where a rule's name was not found.
func (c *Catalog) loadNames(ctx context.Context, q Querier, rules []*Rule) error {
	if !c.anyMissing(rules) {
		return nil
	}
	rows, err := q(ctx, fmt.Sprintf(`SELECT s.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND s.nspname <> 'information_schema' AND s.nspname NOT LIKE 'pg!_%%' ESCAPE '!'
ORDER BY 1, 2 LIMIT %d`, maxKnown))
	if err != nil {
		return err
	}
	for _, row := range rows {
		if len(row) == 3 && row[0] != nil && row[1] != nil && row[2] != nil {
			c.names = append(c.names, knownRelation{*row[0], *row[1], *row[2]})
		}
	}
	return nil
}

func (c *Catalog) anyMissing(rules []*Rule) bool {
	for _, r := range rules {
		if c.byName[qualified(r.Table)] == nil {
			return true
		}
		for _, v := range r.Via {
			if c.byName[qualified(v)] == nil {
				return true
			}
		}
	}
	return false
}

// suggest gives the relations that a missing name may have meant, the nearest first: the
// same name in another schema, or a name a few letters away.
func (c *Catalog) suggest(want Name) []string {
	var found []string
	for _, k := range c.names {
		if k.Name == want.Table {
			found = append(found, k.Schema+"."+k.Name)
		}
	}
	var near []string
	for _, k := range c.names {
		if k.Name != want.Table && k.Schema == want.Schema {
			near = append(near, k.Name)
		}
	}
	for _, n := range nearest(want.Table, near) {
		found = append(found, want.Schema+"."+n)
	}
	return found[:min(len(found), 4)]
}

// nearest gives the candidates that are few letters away from a name, the nearest first.
func nearest(want string, candidates []string) []string {
	limit := min(3, 1+len(want)/4)
	byDistance := make([][]string, limit+1)
	for _, s := range candidates {
		if d := lettersApart(strings.ToLower(want), strings.ToLower(s)); d <= limit {
			byDistance[d] = append(byDistance[d], s)
		}
	}
	var out []string
	for _, group := range byDistance {
		slices.SortStableFunc(group, func(a, b string) int { return lettersApart(want, a) - lettersApart(want, b) }) // case decides between equals
		out = append(out, group...)
	}
	return out[:min(len(out), 3)]
}

// lettersApart is the number of letters to insert, delete or change.
func lettersApart(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
