package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/rules"
)

const (
	textWidth = 100 // where stdout is no terminal
	labelled  = 12  // columns of a label and what is before it
	keysShown = 8   // of one entry, in text
)

// widthOf is how wide lines may be.
func widthOf(w io.Writer) int {
	if file, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width >= 40 {
			return min(width, 140)
		}
	}
	return textWidth
}

// explainPrinter writes explanations for people.
type explainPrinter struct {
	paint paint
	width int
	brief bool
	out   strings.Builder
}

func (p *explainPrinter) print(all []explainedStatement, sum explainSummary) string {
	for _, e := range all {
		if p.brief {
			p.line(e)
			continue
		}
		p.statement(e)
	}
	p.summary(sum)
	return p.out.String()
}

// place gives file:line:column, or what there is of it.
func place(e explainedStatement, at wtcache.Position) string {
	return strings.TrimPrefix(fmt.Sprintf("%s:%d:%d", e.Source, at.Line, at.Column), ":")
}

func (p *explainPrinter) class(c wtcache.Class) string {
	switch c {
	case wtcache.ClassPrecise, wtcache.ClassPinned:
		return p.paint.good(string(c))
	case wtcache.ClassCoarse:
		return p.paint.warn(string(c))
	case wtcache.ClassRefused, wtcache.ClassNotCaptured:
		return p.paint.bad(string(c))
	}
	return p.paint.note(string(c))
}

func (p *explainPrinter) line(e explainedStatement) {
	why := e.Why
	if e.SyntaxError != nil {
		why = fmt.Sprintf("%s at %s. %s", e.SyntaxError.Problem, place(e, e.SyntaxError.Position), why)
	}
	fmt.Fprintf(&p.out, "%s: %s: %s: %s\n", place(e, e.Position), p.class(e.Class), e.Kind, why)
}

func (p *explainPrinter) statement(e explainedStatement) {
	fmt.Fprintf(&p.out, "%s  %s  %s\n", p.paint.dim(place(e, e.Position)), p.paint.bold(e.Kind), p.class(e.Class))
	for line := range strings.Lines(strings.TrimSpace(e.Text)) {
		fmt.Fprintf(&p.out, "    %s\n", strings.TrimRight(line, "\r\n"))
	}
	p.out.WriteByte('\n')
	if s := e.SyntaxError; s != nil {
		p.field("syntax", p.paint.bad, fmt.Sprintf("%s at %s", s.Problem, place(e, s.Position)))
	}
	p.field("why", nil, e.Why)
	for _, t := range e.Tables {
		p.table(t)
	}
	if e.Sent != e.Text && e.Sent != "" {
		p.field("sent", nil, strings.Join(strings.Fields(e.Sent), " "))
	}
	if e.Order != "" {
		p.field("order", nil, strings.ReplaceAll(string(e.Order), "-", " ")+". "+e.OrderWhy)
	}
	p.field("outside tx", nil, e.Outside)
	p.field("inside tx", nil, e.Inside)
	p.field("Redis down", nil, e.RedisDown)
	for _, w := range e.Warnings {
		p.field("warning", p.paint.warn, w)
	}
	p.field("advice", p.paint.note, e.Advice)
	p.field("together", nil, e.AsOneString)
	p.out.WriteByte('\n')
}

func (p *explainPrinter) table(t wtcache.ExplainedTable) {
	p.field("touches", nil, fmt.Sprintf("%s (%s; rule %s, %s, %sredis_down %s)", p.paint.bold(t.Table), t.How, t.Rule, t.Consistency, ifAsync("apply async, ", rules.Apply(t.Apply)), t.RedisDown))
	for _, e := range t.Entries {
		name := e.Name
		if name == "" {
			name = "shared key"
		}
		text := fmt.Sprintf("%s: %s %s", name, strings.Join(firstKeys(e.Keys), ", "), e.Effect)
		if e.Effect == wtcache.EffectSwept {
			text = fmt.Sprintf("%s: every %s absent", name, e.Key)
		}
		if len(e.OldKeys) > 0 {
			text += fmt.Sprintf("; before: %s, absent where that is another", strings.Join(firstKeys(e.OldKeys), ", "))
		}
		if e.Why != "" {
			text += " (" + e.Why + ")"
		}
		p.wrap(strings.Repeat(" ", labelled+4), labelled+6, text)
	}
}

func firstKeys(keys []string) []string {
	if len(keys) <= keysShown {
		return keys
	}
	return append(keys[:keysShown:keysShown], fmt.Sprintf("… (%d in all)", len(keys)))
}

// field prints a label and a text beside it; an empty text is left out.
func (p *explainPrinter) field(label string, colour func(string) string, text string) {
	if text == "" {
		return
	}
	if colour == nil {
		colour = p.paint.dim
	}
	head := "  " + colour(label) + strings.Repeat(" ", max(labelled-len(label), 1))
	p.wrap(head, labelled+2, text)
}

// wrap prints words behind head, and in further lines from column indent on. What has no blank is not cut.
func (p *explainPrinter) wrap(head string, indent int, text string) {
	p.out.WriteString(head)
	column, first := indent, true
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case first:
			first = false
		case column+1+n > p.width:
			p.out.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			p.out.WriteByte(' ')
			column++
		}
		p.out.WriteString(word)
		column += n
	}
	p.out.WriteByte('\n')
}

func (p *explainPrinter) summary(s explainSummary) {
	var parts []string
	for _, c := range classes {
		if n := s.ByClass[c]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, p.class(c)))
		}
	}
	text := several(s.Statements, "statement")
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	if s.SyntaxErrors > 0 {
		text += "; " + p.paint.bad(fmt.Sprintf("%d not parsed", s.SyntaxErrors))
	}
	p.out.WriteString(text + "\n")
}
