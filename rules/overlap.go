package rules

// Class is what is known of the texts that a column's values have.
type Class uint8

// The classes. ClassText, the zero value, is right for every column.
const (
	ClassText    Class = iota // any text
	ClassInteger              // -?[0-9]+
	ClassUUID                 // lower-case hex digits and dashes, not empty
	ClassBool                 // true, false, t, f
)

// Overlap says whether some values make both templates render one key, or keys that would
// share the names that the protocol builds around them ("u:1" and "{u:1}"). classOf gives
// the class of a template's column; nil means ClassText for all. The answer may be true
// where it could be false, never the other way round: the values of a UUID are not
// counted, and an encoded byte is any byte.
func Overlap(a, b *Template, classOf func(t *Template, column string) Class) bool {
	if classOf == nil {
		classOf = func(*Template, string) Class { return ClassText }
	}
	class := func(t *Template) func(string) Class {
		return func(column string) Class { return classOf(t, column) }
	}
	return automatonOf(a.tagged(), class(a)).meets(automatonOf(b.tagged(), class(b)))
}

// automaton accepts the keys of a template (and, where exactness would cost more than it
// is worth, some more). State 0 is the start.
type automaton struct {
	edges  [][]edge
	accept int
}

type edge struct {
	bytes byteSet
	to    int
}

func automatonOf(t *Template, classOf func(column string) Class) *automaton {
	m := &automaton{}
	at := m.state()
	for i, literal := range t.literals {
		if i > 0 {
			at = m.value(at, t, classOf(t.placeholders[i-1].column))
		}
		for j := 0; j < len(literal); j++ {
			next := m.state()
			m.edge(at, byteSet{}.with(literal[j]), next)
			at = next
		}
	}
	m.accept = at
	return m
}

func (m *automaton) state() int {
	m.edges = append(m.edges, nil)
	return len(m.edges) - 1
}

func (m *automaton) edge(from int, bytes byteSet, to int) {
	m.edges[from] = append(m.edges[from], edge{bytes, to})
}

// value adds the texts of one placeholder behind a state and gives the state where a
// value may end.
func (m *automaton) value(from int, t *Template, class Class) int {
	end := m.state()
	switch class {
	case ClassInteger:
		digits := setOf("0123456789")
		signed := m.state()
		m.unit(from, setOf("-"), signed, t)
		m.unit(signed, digits, end, t)
		m.unit(from, digits, end, t)
		m.unit(end, digits, end, t)
	case ClassUUID:
		m.unit(from, setOf("-0123456789abcdef"), end, t)
		m.unit(end, setOf("-0123456789abcdef"), end, t)
	case ClassBool:
		for _, word := range [...]string{"true", "false", "t", "f"} {
			m.word(from, word, end, t)
		}
	default:
		m.unit(from, allBytes, end, t)
		m.unit(end, allBytes, end, t)
	}
	return end
}

// unit adds one byte of a value, bare or encoded as the template encodes it. A text
// may have any byte encoded, because the guards of the protocol's own names do so.
func (m *automaton) unit(from int, bytes byteSet, to int, t *Template) {
	m.edge(from, bytes.without(t.encode), to)
	if !bytes.meets(t.encode) {
		return
	}
	percent, high := m.state(), m.state()
	m.edge(from, byteSet{}.with('%'), percent)
	m.edge(percent, upperHex, high)
	m.edge(high, upperHex, to)
}

func (m *automaton) word(from int, word string, to int, t *Template) {
	for i := 0; i < len(word); i++ {
		next := to
		if i < len(word)-1 {
			next = m.state()
		}
		m.unit(from, byteSet{}.with(word[i]), next, t)
		from = next
	}
}

// meets says whether the two automata accept a text in common, by walking the pairs of
// states that one text can reach.
func (m *automaton) meets(o *automaton) bool {
	type pair struct{ a, b int }
	seen := map[pair]bool{{}: true}
	for queue := []pair{{}}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at.a == m.accept && at.b == o.accept {
			return true
		}
		for _, e := range m.edges[at.a] {
			for _, f := range o.edges[at.b] {
				next := pair{e.to, f.to}
				if !seen[next] && e.bytes.meets(f.bytes) {
					seen[next] = true
					queue = append(queue, next)
				}
			}
		}
	}
	return false
}
