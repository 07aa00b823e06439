package wtcache

import (
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
)

// structPlan is what is known of a struct type for one entry. It is safe for concurrent
// use.
type structPlan struct {
	typ    reflect.Type
	typeOf func(string) (string, bool)
	exact  map[string]*structField
	folded map[string]*structField // where only the case differs, the first field counts

	// order is how the last payload that was out of order went: payloads of one entry have
	// the same members in the same order, so that a name is compared and not looked up.
	order atomic.Pointer[[]member]
}

// structField is a field that encoding/json would decode into.
type structField struct {
	name   string
	index  []int
	typ    reflect.Type
	tagged bool
}

// member is a member of a payload and the field it belongs to; decode is nil where the
// struct has none.
type member struct {
	name   string
	column string
	field  *structField
	decode decodeFunc
}

func newStructPlan(t reflect.Type, typeOf func(string) (string, bool)) *structPlan {
	p := &structPlan{typ: t, typeOf: typeOf, exact: map[string]*structField{}, folded: map[string]*structField{}}
	for _, f := range structFields(t) {
		p.exact[f.name] = f
		if fold := foldName(f.name); p.folded[fold] == nil {
			p.folded[fold] = f
		}
	}
	return p
}

func (p *structPlan) decode(payload []byte, v reflect.Value) error {
	known := p.order.Load()
	var order []member
	if known != nil {
		order = *known
	}
	learned := false
	s := jsonScan{b: payload}
	if !s.open('{') {
		return p.notJSON()
	}
	for n := 0; ; n++ {
		more, err := s.more(n, '}')
		if err != nil {
			return p.notJSON()
		}
		if !more {
			break
		}
		name, value, err := s.member()
		if err != nil {
			return p.notJSON()
		}
		if n >= len(order) || order[n].name != string(name) {
			if !learned {
				order, learned = slices.Clone(order[:min(n, len(order))]), true
			}
			order = append(order[:n], p.member(string(name)))
		}
		if m := &order[n]; m.decode != nil {
			if err := m.set(v, value); err != nil {
				return &decodeError{m.name, m.column, p.typ.String() + "." + p.path(m.field), m.field.typ, err}
			}
		}
	}
	if err := s.end(); err != nil {
		return p.notJSON()
	}
	if learned {
		p.order.Store(&order)
	}
	return nil
}

func (p *structPlan) notJSON() error {
	return &payloadError{p.typ}
}

// payloadError is a payload that no row of any table can be.
type payloadError struct{ typ reflect.Type }

func (e *payloadError) Error() string {
	return "wtcache: decode payload into " + e.typ.String() + ": the payload is not a JSON object"
}

// member finds the field of a payload's member.
func (p *structPlan) member(name string) member {
	f := p.exact[name]
	if f == nil {
		f = p.folded[foldName(name)]
	}
	if f == nil {
		return member{name: name}
	}
	column := ""
	if p.typeOf != nil {
		column, _ = p.typeOf(name)
	}
	return member{name, column, f, decoderOf(f.typ, columnOf(column), 0)}
}

// path names a field as Go does: Address.City.
func (p *structPlan) path(f *structField) string {
	var names []string
	for t := p.typ; len(names) < len(f.index); {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		field := t.Field(f.index[len(names)])
		names = append(names, field.Name)
		t = field.Type
	}
	return strings.Join(names, ".")
}

func (m *member) set(v reflect.Value, value jsonValue) error {
	for i, at := range m.field.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if !v.CanSet() {
					return misfit("the embedded pointer to a struct that is not exported is nil and cannot be set")
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(at)
	}
	return m.decode(value, v)
}

// structFields gives the fields that encoding/json would decode into, in its order. Of
// several fields with one name the shallowest counts, then the one whose tag says the
// name; what is then still ambiguous is nobody's.
func structFields(t reflect.Type) []*structField {
	var all []*structField
	collectFields(t, nil, nil, &all)
	byName := map[string][]*structField{}
	for _, f := range all {
		byName[f.name] = append(byName[f.name], f)
	}
	return slices.DeleteFunc(all, func(f *structField) bool { return dominant(byName[f.name]) != f })
}

func dominant(fields []*structField) *structField {
	rank := func(f *structField) int {
		r := 2 * len(f.index)
		if !f.tagged {
			r++
		}
		return r
	}
	best := slices.MinFunc(fields, func(a, b *structField) int { return rank(a) - rank(b) })
	for _, f := range fields {
		if f != best && rank(f) == rank(best) {
			return nil
		}
	}
	return best
}

// collectFields adds the fields of t, which is at index and inside the types of around. A
// type inside itself has no field that its outer self does not hide.
func collectFields(t reflect.Type, index []int, around []reflect.Type, all *[]*structField) {
	if slices.Contains(around, t) {
		return
	}
	around = append(slices.Clip(around), t)
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(slices.Clip(index), i)
		name, tagged := fieldName(f)
		if name == "-" && !tagged {
			continue
		}
		inner := f.Type
		if inner.Name() == "" && inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case f.Anonymous && !tagged && inner.Kind() == reflect.Struct:
			collectFields(inner, at, around, all)
		case f.IsExported():
			*all = append(*all, &structField{name, at, f.Type, tagged})
		}
	}
}

// fieldName gives a field's name in JSON, and whether its tag says it. A field to be left
// out is "-" without a tag.
func fieldName(f reflect.StructField) (name string, tagged bool) {
	tag := f.Tag.Get("json")
	if tag == "-" {
		return "-", false
	}
	name, _, _ = strings.Cut(tag, ",")
	odd := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r)
	}
	if name == "" || strings.ContainsFunc(name, odd) {
		return f.Name, false
	}
	return name, true
}

// foldName gives the same text for names that differ in case alone.
func foldName(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		return least
	}, name)
}
