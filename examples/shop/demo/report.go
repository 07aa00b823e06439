package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// report writes the table of a run.
func report(out io.Writer, findings []finding) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  KEY\tDATABASE ROW\tCACHE ENTRY\tVERDICT")
	for _, f := range findings {
		rowText, entryText := "no row", "absent"
		if f.row.doc != "" {
			rowText = brief(f.key, f.row.doc)
		}
		if f.hasEntry {
			entryText = brief(f.key, f.entry)
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", f.key, rowText, entryText, f.verdict())
	}
	table.Flush()
}

// reportAbsent writes what the shop shows where a row has no entry.
func reportAbsent(out io.Writer, findings []finding) {
	for _, f := range findings {
		if f.hasEntry || f.row.doc == "" {
			continue
		}
		text := "as the database has it"
		if f.page.wrong != "" {
			text = "WRONG: " + f.page.wrong
		}
		fmt.Fprintf(out, "  %s is absent, GET %s: %s, cache %s, %s\n",
			f.key, f.page.path, brief(f.key, string(f.page.reply.doc)), f.page.reply.cache, text)
	}
}

func (f finding) verdict() string {
	text := "ok"
	switch {
	case f.staleness != "":
		text = "STALE: " + f.staleness
	case !f.hasEntry:
		text = "ok (absent)"
	}
	if f.fault != "" {
		text += "  <- " + f.fault
	}
	return text
}

// briefColumns are what the table shows of a row.
var briefColumns = map[string][]string{
	kindProduct: {"price_cents", "stock"},
	kindUser:    {"email", "balance_cents"},
	kindEmail:   {"id", "balance_cents"},
	kindOrder:   {"user_id", "quantity", "status"},
}

func brief(key, doc string) string {
	v, err := decode(doc)
	if err != nil {
		return "no JSON"
	}
	switch v := v.(type) {
	case []any:
		return briefList(v)
	case map[string]any:
		var parts []string
		for _, column := range briefColumns[kindOf(key)] {
			parts = append(parts, fmt.Sprintf("%s=%v", strings.TrimSuffix(column, "_cents"), v[column]))
		}
		if v["archived_at"] != nil {
			parts = append(parts, "archived")
		}
		return strings.Join(parts, " ")
	}
	return fmt.Sprint(v)
}

func briefList(list []any) string {
	ids := make([]string, 0, len(list))
	for _, v := range list {
		if o, ok := v.(map[string]any); ok {
			ids = append(ids, fmt.Sprintf("%v %v", o["id"], o["status"]))
		}
	}
	return "[" + strings.Join(ids, ", ") + "]"
}

// summary is what a run comes to.
type summary struct {
	keys, entries, stale int
	wrongPages           int
	kinds                map[string]int  // entries of each kind of key
	staleFaults          map[string]bool // faults whose key is stale
}

func summarize(findings []finding) summary {
	sum := summary{keys: len(findings), kinds: map[string]int{}, staleFaults: map[string]bool{}}
	for _, f := range findings {
		if f.hasEntry {
			sum.entries++
			sum.kinds[kindOf(f.key)]++
		}
		if f.staleness != "" {
			sum.stale++
			if f.fault != "" {
				sum.staleFaults[f.fault] = true
			}
		}
		if f.page.wrong != "" {
			sum.wrongPages++
		}
	}
	return sum
}

func (sum summary) String() string {
	return fmt.Sprintf("%d keys: %d hold an entry, %d are absent, %d stale; the shop shows %d of %d as the database has them",
		sum.keys, sum.entries, sum.keys-sum.entries, sum.stale, sum.keys-sum.wrongPages, sum.keys)
}

// provesSomething is an error where the hand-written cache survived a fault: then the scenario shows nothing about any
// other cache either.
func (sum summary) provesSomething() error {
	for _, fault := range allFaults {
		if !sum.staleFaults[fault] {
			return fmt.Errorf("%w: after %q the hand-written cache is not stale, so the demo would prove nothing", errNoFault, fault)
		}
	}
	return nil
}

// isKept is an error where the driver's cache holds nothing of some kind (an empty cache is never stale), or where the
// shop shows something else than the database has.
func (sum summary) isKept() error {
	for _, kind := range []string{kindProduct, kindUser, kindEmail, kindOrder, kindList} {
		if sum.kinds[kind] == 0 {
			return fmt.Errorf("no key of the kind %q holds an entry, so that none of them could be stale", kind[2:])
		}
	}
	if sum.wrongPages > 0 {
		return fmt.Errorf("the shop shows %d pages that are not what the database has", sum.wrongPages)
	}
	return nil
}
