package parser

import (
	pg "github.com/pganalyze/pg_query_go/v5"
)

// sets returns what a SET list shows of the values that it assigns. A column that is
// assigned in parts, or together with others, is left out.
func sets(targets []*pg.Node) []Pin {
	var shown []Pin
	for _, t := range targets {
		target := t.GetResTarget()
		if len(target.GetIndirection()) > 0 {
			continue
		}
		v := valueOf(target.GetVal())
		if fields := stringList(target.GetVal().GetColumnRef().GetFields()); len(fields) == 2 && fields[0] == "excluded" {
			v = Value{Kind: ValueExcluded, Text: fields[1]}
		}
		if v.Kind != ValueOther {
			shown = append(shown, Pin{Column: target.GetName(), Value: v})
		}
	}
	return shown
}

// returned returns what each item of a RETURNING list is.
func (b *builder) returned(items []*pg.Node) []string {
	var names []string
	for _, item := range items {
		value := item.GetResTarget().GetVal()
		fields := value.GetColumnRef().GetFields()
		name, ok := b.targetColumn(value)
		switch {
		case len(fields) == 1 && fields[0].GetAStar() != nil && !b.stmt.From:
			name = "*"
		case !ok:
			name = ""
		}
		names = append(names, name)
	}
	return names
}
