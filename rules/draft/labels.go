package draft

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/wtcache/wtcache/rules"
)

// labels gives each table the word that its keys and its file begin with: its name; with
// the schema before it where a table of another schema has that name, unless it is
// public's. They depend on all tables and not on those that are chosen, so that a later
// run gives the same ones.
func labels(all []*relation, o Options) map[uint32]string {
	count := map[string]int{}
	var tables []*relation
	for _, r := range all {
		if r.isTable() && !r.Partition && r.Extension == "" && r.Schema != o.Outbox {
			tables = append(tables, r)
			count[folded(r.Name)]++
		}
	}
	// The names of public come first: nothing that happens in other schemas changes them.
	out, taken := map[uint32]string{}, map[string]bool{}
	for _, public := range []bool{true, false} {
		for _, r := range tables {
			if (r.Schema == "public") != public {
				continue
			}
			label := word(r.Name)
			if count[folded(r.Name)] > 1 && !public || label == "wtcache" {
				label = word(r.Schema) + "." + label
			}
			out[r.OID] = unused(label, taken)
		}
	}
	return out
}

// folded is what two names have in common whose files a file system might not tell apart.
func folded(name string) string { return strings.ToLower(word(name)) }

// unused adds a number to a label that is taken, and takes it. Letters of another case count
// as the same.
func unused(label string, taken map[string]bool) string {
	free := label
	for n := 2; taken[strings.ToLower(free)]; n++ {
		free = fmt.Sprintf("%s_%d", label, n)
	}
	taken[strings.ToLower(free)] = true
	return free
}

// word makes of a name what may stand in a key, a file's name and a shell without quotes.
func word(name string) string {
	w := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, name)
	if strings.Trim(w, "_-") == "" {
		return "table" + w
	}
	return strings.TrimLeft(w, "-")
}

// fileName gives the name of a table's file: that of its label, unless the rule of another
// table has it.
func (d *drafter) fileName(r *relation) string {
	taken := map[string]bool{}
	for _, e := range d.o.Existing {
		if e.Table != r.name() {
			taken[strings.ToLower(strings.TrimSuffix(filepath.Base(e.Pos.File), ".yaml"))] = true
		}
	}
	return unused(d.labels[r.OID], taken) + ".yaml"
}

// ruledElsewhere gives the file of a table's existing rule, "" where there is none but in
// the file that the draft would have.
func (d *drafter) ruledElsewhere(r *relation) string {
	for _, e := range d.o.Existing {
		if e.Table == r.name() && filepath.Base(e.Pos.File) != d.fileName(r) {
			return e.Pos.File
		}
	}
	return ""
}

// spelled writes a relation's name as a rule file has it.
func spelled(n rules.Name) string { return quoted(n.Schema) + "." + quoted(n.Table) }

// quoted writes a name as SQL spells it: in quotes unless it is a plain word.
func quoted(name string) string {
	for i, r := range name {
		if r != '_' && (r < 'a' || r > 'z') && (i == 0 || r < '0' || r > '9') {
			return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		}
	}
	return name
}
