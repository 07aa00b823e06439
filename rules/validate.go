package rules

import (
	"fmt"
	"slices"
	"strings"
)

// checkRule finds what is wrong with a rule's parts taken together, as far as that can
// be known without the catalogue, and fills in the names of the entries.
func (d *decoder) checkRule(r *Rule) {
	d.checkVia(r)
	names := map[string]Pos{}
	for _, e := range r.Entries {
		d.checkColumns(r, e)
		d.checkPayloadNames(r, e)
		d.nameEntry(r, e, names)
	}
	d.checkShared(r)
	d.checkRead(r)
}

func (d *decoder) checkVia(r *Rule) {
	for i, via := range r.Via {
		at := r.At(fmt.Sprintf("via[%d]", i))
		switch {
		case via == r.Table:
			d.faultf(at, "name updatable views of the table, or remove it", "%s is the rule's own table", via)
		case slices.Contains(r.Via[:i], via):
			d.faultf(at, "name it once", "the view %s is named twice", via)
		}
	}
}

// checkColumns compares the lists of an entry: what is left out cannot be asked for.
func (d *decoder) checkColumns(r *Rule, e *Entry) {
	for i, column := range e.Omit {
		if column != "" && slices.Contains(e.Columns, column) {
			at := r.At(join(e.Path, fmt.Sprintf("omit[%d]", i)))
			d.faultf(at, "keep it in one of the two lists", "the column %q is in `columns` and in `omit`", column)
		}
	}
	for _, column := range sortedKeys(e.Rename) {
		if e.keeps(column) {
			continue
		}
		at := r.At(join(e.Path, "rename."+column))
		d.faultf(at, "keep the column, or remove the new name", "the renamed column %q is not kept", column)
	}
}

// keeps says whether a column, if the table has it, is part of the payload.
func (e *Entry) keeps(column string) bool {
	return !slices.Contains(e.Omit, column) && (len(e.Columns) == 0 || slices.Contains(e.Columns, column))
}

// checkPayloadNames finds columns that would have one name in the payload.
func (d *decoder) checkPayloadNames(r *Rule, e *Entry) {
	owner := map[string]string{}
	for _, column := range e.Columns {
		if _, renamed := e.Rename[column]; !renamed && column != "" {
			owner[column] = column
		}
	}
	for _, column := range sortedKeys(e.Rename) {
		name := e.Rename[column]
		if other, taken := owner[name]; taken && other != column {
			at := r.At(join(e.Path, "rename."+column))
			d.faultf(at, "choose another name", "the columns %q and %q would both be called %q in the payload", other, column, name)
			continue
		}
		owner[name] = column
	}
}

// nameEntry fills in the entry's default name and finds names that are used twice.
func (d *decoder) nameEntry(r *Rule, e *Entry, names map[string]Pos) {
	path, hint := join(e.Path, "name"), "choose another name"
	if e.Name == "" {
		if e.Key == nil {
			return
		}
		e.Name = "by_" + strings.Join(e.Key.Columns(), "_")
		path, hint = e.Path, "give this entry a `name`"
	}
	at := r.At(path)
	if before, taken := names[e.Name]; taken {
		d.faultf(at, hint, "the entry name %q is taken by the entry in line %d", e.Name, before.Line)
		return
	}
	names[e.Name] = at
}

// checkShared finds `invalidate` keys that say the same twice. Equal texts around other
// columns are right there: a transfer makes two accounts' keys absent.
func (d *decoder) checkShared(r *Rule) {
	for i, t := range r.Shared {
		at := r.At(fmt.Sprintf("invalidate[%d]", i))
		for _, e := range r.Entries {
			if e.Key != nil && t.sameKeys(e.Key) {
				d.faultf(at, "remove it: a write takes care of the entry's key", "the key %q is the key of the entry %q", t, e.Name)
			}
		}
		if slices.ContainsFunc(r.Shared[:i], t.sameKeys) {
			d.faultf(at, "name it once", "the key %q is named twice", t)
		}
	}
}

// sameKeys says whether every row has the same key by both templates.
func (t *Template) sameKeys(o *Template) bool {
	return t.shape() == o.shape() && slices.EqualFunc(t.placeholders, o.placeholders,
		func(a, b placeholder) bool { return a.column == b.column })
}

// checkTogether finds what is wrong between the rules of different files: tables and
// views that two rules claim, and entries whose keys are made alike.
func checkTogether(loaded []*Rule) []Finding {
	var c claims
	for _, r := range loaded {
		c.rule(r)
	}
	return c.findings
}

// claims records who was first to claim something.
type claims struct {
	tables, views, shapes map[string]Pos
	findings              []Finding
}

func (c *claims) rule(r *Rule) {
	if r.Table != (Name{}) {
		c.claim(&c.tables, r.Table.String(), r.Pos,
			fmt.Sprintf("the table %s has a rule already", r.Table), "write one rule a table")
	}
	own := map[Name]bool{} // one rule's own repetitions are found with the rule
	for i, via := range r.Via {
		if !own[via] {
			own[via] = true
			c.claim(&c.views, via.String(), r.At(fmt.Sprintf("via[%d]", i)),
				fmt.Sprintf("the view %s belongs to another rule already", via), "name a view in the rule of its one table")
		}
	}
	for _, e := range r.Entries {
		if e.Key == nil {
			continue
		}
		c.claim(&c.shapes, e.Key.tagged().shape(), r.At(join(e.Path, "key")),
			fmt.Sprintf("the key %q can be equal to the key of another entry, or needs the same names beside it", e.Key), "start each entry's keys with words of its own")
	}
}

func (c *claims) claim(taken *map[string]Pos, what string, at Pos, problem, fix string) {
	if *taken == nil {
		*taken = map[string]Pos{}
	}
	if first, ok := (*taken)[what]; ok {
		c.findings = append(c.findings, Finding{Pos: at, Problem: fmt.Sprintf("%s (%s)", problem, first), Fix: fix})
		return
	}
	(*taken)[what] = at
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
