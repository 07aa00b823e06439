package draft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/rules"
)

// NameError is a name of Options that means nothing in the database, or too much.
type NameError struct {
	Name    string   // as it was given
	Problem string   // the end of a sentence that begins with the name
	Near    []string // what may have been meant
}

// Error gives `"usrs" is no table or view of the database; did you mean users?`
func (e *NameError) Error() string {
	text := fmt.Sprintf("%q %s", e.Name, e.Problem)
	if len(e.Near) > 0 {
		text += "; did you mean " + strings.Join(e.Near, " or ") + "?"
	}
	return text
}

// selection is what Options choose.
type selection struct {
	schemas      map[string]bool // nil: all
	only, except map[*relation]bool
}

func (s *selection) has(r *relation) bool {
	switch {
	case s.except[r] || s.schemas != nil && !s.schemas[r.Schema]:
		return false
	case s.only != nil:
		return s.only[r]
	}
	return true
}

// named says that somebody has asked for this very relation.
func (s *selection) named(r *relation) bool { return s.only[r] }

func choose(all []*relation, o Options) (*selection, error) {
	s := &selection{except: map[*relation]bool{}}
	if len(o.Schemas) > 0 {
		s.schemas = map[string]bool{}
	}
	for _, name := range o.Schemas {
		if err := schemaKnown(all, name); err != nil {
			return nil, err
		}
		s.schemas[name] = true
	}
	for _, name := range o.Except {
		found := find(all, o.Schemas, name)
		if len(found) == 0 {
			return nil, unknown(all, name)
		}
		for _, r := range found {
			s.except[r] = true
		}
	}
	if len(o.Only) > 0 {
		s.only = map[*relation]bool{}
	}
	for _, name := range o.Only {
		found := find(all, o.Schemas, name)
		switch {
		case len(found) == 0:
			return nil, unknown(all, name)
		case len(found) > 1:
			return nil, &NameError{name, "is in several schemas", shown(found)}
		}
		s.only[found[0]] = true
	}
	return s, nil
}

func schemaKnown(all []*relation, name string) error {
	var schemas []string
	for _, r := range all {
		if r.Schema == name {
			return nil
		}
		if !slices.Contains(schemas, r.Schema) {
			schemas = append(schemas, r.Schema)
		}
	}
	e := &NameError{name, "is no schema that holds tables of your own", nil}
	if near, ok := rules.Nearest(name, schemas); ok {
		e.Near = []string{near}
	}
	return e
}

// find gives the relations that a name means: as stored first, then as SQL folds it.
func find(all []*relation, schemas []string, name string) []*relation {
	for _, same := range []func(r *relation) bool{
		func(r *relation) bool { return r.Name == name || r.Schema+"."+r.Name == name },
		func(r *relation) bool { return spelled(r.name()) == name || quoted(r.Name) == name },
		func(r *relation) bool {
			return strings.EqualFold(r.Name, name) || strings.EqualFold(r.Schema+"."+r.Name, name)
		},
	} {
		var found []*relation
		for _, r := range all {
			if same(r) && (len(schemas) == 0 || slices.Contains(schemas, r.Schema)) {
				found = append(found, r)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// unknown says what may have been meant: the same name in another schema, else one that is a
// few letters away.
func unknown(all []*relation, name string) error {
	e := &NameError{name, "is no table or view of the database, or of the schemas that were named", nil}
	_, table, qualified := strings.Cut(name, ".")
	var candidates []string
	for _, r := range all {
		full := r.name().String()
		switch {
		case qualified && r.Name == table:
			e.Near = append(e.Near, full)
		case qualified:
			candidates = append(candidates, full)
		default:
			candidates = append(candidates, r.Name)
		}
	}
	if near, ok := rules.Nearest(name, candidates); ok && len(e.Near) == 0 {
		e.Near = []string{near}
	}
	return e
}

func shown(found []*relation) []string {
	out := make([]string, len(found))
	for i, r := range found {
		out[i] = r.name().String()
	}
	return out
}
