package torture

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/internal/linear"
)

// keep prints what was wrong in a window, with the history around it, and keeps the whole history of the keys in a folder.
func (w *World) keep(r Result, f findings, q quiet) error {
	if w.kept == "" {
		dir, err := os.MkdirTemp(w.opts.Keep, "wtcache-torture-wrong-")
		if err != nil {
			return err
		}
		w.kept = dir
	}
	w.faults++
	name := filepath.Join(w.kept, fmt.Sprintf("%03d-%s", w.faults, strings.Map(plain, r.Nemesis)))
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n%s\n", heading, r)
	for _, d := range q.differing {
		fmt.Fprintf(&text, "DIFFERS: %s\n", d)
	}
	for i, s := range f.stale {
		if i == 3 {
			fmt.Fprintf(&text, "… and %d more stale reads\n", len(f.stale)-i)
			break
		}
		fmt.Fprintf(&text, "STALE by %v: %s\n", s.Age, w.line(s.Read))
		w.around(&text, q.records, s.Read.Key, s.Newer.Call, s.Read.Return)
	}
	for _, b := range f.verdict.Broken {
		fmt.Fprintf(&text, "NOT LINEARIZABLE, %v: %v\n", placeOf(b.Key), b)
	}
	fmt.Fprintf(w.opts.Out, "%s", text.String())
	errs := []error{os.WriteFile(name+".txt", []byte(text.String()), 0o644), keepRecords(name+".jsonl", q.records)}
	for _, b := range f.verdict.Broken {
		page, err := os.Create(fmt.Sprintf("%s-%d.html", name, b.Key))
		if err == nil {
			err = errors.Join(b.Visualize(page), page.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func plain(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return r
	}
	return '-'
}

func keepRecords(path string, records []record) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(file)
	var errs []error
	for _, r := range records {
		errs = append(errs, enc.Encode(r))
	}
	return errors.Join(append(errs, file.Close())...)
}

// around prints what was done to a key from one moment to another: all writes, and the reads next to the end.
func (w *World) around(text *strings.Builder, records []record, key int, from, to int64) {
	var near []record
	for _, r := range records {
		if r.Key == key && (r.Return >= from || r.Return == 0) && r.Call <= to && (r.Kind != linear.Read || r.Return > to-int64(before)) {
			near = append(near, r)
		}
	}
	slices.SortFunc(near, func(x, y record) int { return cmp.Compare(x.Call, y.Call) })
	const most = 40
	if n := len(near) - most; n > 0 {
		fmt.Fprintf(text, "    … %d operations\n", n)
		near = near[n:]
	}
	for _, r := range near {
		fmt.Fprintf(text, "    %s\n", w.line(r))
	}
}

// line shows a record, its times in milliseconds since the window began.
func (w *World) line(r record) string {
	ms := func(t int64) string { return fmt.Sprintf("%.3f", float64(t-w.began)/1e6) }
	end := ms(r.Return)
	if r.Return == 0 {
		end = "never"
	}
	text := fmt.Sprintf("%v, client %d: %v %s (%s), %s to %s ms", placeOf(r.Key), r.Client, r.Kind, valueText(r.Value), r.Way, ms(r.Call), end)
	switch {
	case r.Kind == linear.Read && r.Cached:
		text += ", from Redis"
	case r.Kind == linear.Read:
		text += ", from Postgres"
	case r.Outcome != "":
		text += ", " + string(r.Outcome)
	}
	if r.Error != "" {
		text += ": " + r.Error
	}
	return text
}
