package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/parser"
)

func isTerminalIn(r io.Reader) bool {
	file, ok := r.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// logged is how Postgres writes a statement into its log, after whatever log_line_prefix says.
// Source: https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-LOG-STATEMENT
var logged = regexp.MustCompile(`(?m)^.*\bLOG:  (?:duration: [0-9.]+ ms  )?(?:statement|execute [^:\n]*): `)

// explainText explains the statements of a source, in its order.
func explainText(x *wtcache.Explainer, s explainSource, args []any) ([]wtcache.Explanation, error) {
	if s.loose && len(args) == 0 {
		if heads := logged.FindAllStringIndex(s.text, -1); heads != nil {
			return explainLog(x, s.text, heads)
		}
	}
	found, err := x.Explain(s.text, args...)
	if err != nil || !s.loose {
		return found, err
	}
	var all []wtcache.Explanation
	for _, e := range found {
		e.AsOneString = "" // nobody sends a file so
		if lines := byLine(x, s.text, e); lines != nil {
			all = append(all, lines...)
			continue
		}
		all = append(all, e)
	}
	return all, nil
}

// explainLog explains what stands behind each head, and in the lines below it that begin
// with a tab, as the later lines of a statement do.
func explainLog(x *wtcache.Explainer, text string, heads [][]int) (all []wtcache.Explanation, err error) {
	for _, head := range heads {
		start := head[1]
		end := lineEnd(text, start)
		for end+1 < len(text) && text[end+1] == '\t' {
			end = lineEnd(text, end+1)
		}
		part, err := explainPart(x, text, start, end)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}

// byLine explains line by line what does not parse as a whole, where most lines do: a
// file with one statement a line and no semicolons. It is nil where that is not so.
func byLine(x *wtcache.Explainer, text string, e wtcache.Explanation) (all []wtcache.Explanation) {
	if e.SyntaxError == nil || !strings.Contains(e.Text, "\n") {
		return nil
	}
	good, bad := 0, 0
	first, _ := parser.FirstWord(e.Text)
	start := e.Position.Byte - first
	for at, end := start, start+len(e.Text); at < end; at = lineEnd(text, at) + 1 {
		line, err := explainPart(x, text, at, min(lineEnd(text, at), end))
		if err != nil {
			return nil
		}
		for _, one := range line {
			if one.SyntaxError == nil {
				good++
			} else {
				bad++
			}
		}
		all = append(all, line...)
	}
	if good <= bad {
		return nil
	}
	return all
}

// explainPart explains a part of a text, with positions in the whole.
func explainPart(x *wtcache.Explainer, text string, start, end int) ([]wtcache.Explanation, error) {
	part, err := x.Explain(text[start:end])
	line := 1 + strings.Count(text[:start], "\n")
	column := utf8.RuneCountInString(text[strings.LastIndexByte(text[:start], '\n')+1:start]) + 1
	shift := func(p *wtcache.Position) {
		p.Byte += start
		if p.Line == 1 {
			p.Column += column - 1
		}
		p.Line += line - 1
	}
	for i := range part {
		part[i].AsOneString = ""
		shift(&part[i].Position)
		if part[i].SyntaxError != nil {
			shift(&part[i].SyntaxError.Position)
		}
	}
	return part, err
}

func lineEnd(text string, from int) int {
	if i := strings.IndexByte(text[from:], '\n'); i >= 0 {
		return from + i
	}
	return len(text)
}
