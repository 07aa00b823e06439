package parser

import "strings"

// phrase is a word in a text that may begin a statement which writes.
type phrase struct {
	text   string
	tokens []token // without comments
	at     int
}

func (p phrase) is(i int, words ...string) bool {
	if i < 0 || i >= len(p.tokens) {
		return false
	}
	for _, w := range words {
		if p.tokens[i].is(p.text, w) {
			return true
		}
	}
	return false
}

// target gives where the name of the written relation would stand behind the words that
// begin at the phrase; false where these begin no statement that writes.
func (p phrase) target() (at int, ok bool) {
	i := p.at
	switch {
	case p.is(i, "insert", "merge") && p.is(i+1, "into"):
		return p.behind(i+2, "only"), true
	case p.is(i, "delete") && p.is(i+1, "from"):
		return p.behind(i+2, "only"), true
	case p.is(i, "update") && !p.is(i-1, "for", "key", "do", "on", "or", "of", "before", "after") && !p.is(i+1, "set", "of", "nowait", "skip", "on"):
		return p.behind(i+1, "only"), true
	case p.is(i, "truncate") && !p.is(i-1, "or", "on", "before", "after") && !p.is(i+1, "on", "or"):
		return p.behind(i+1, "table", "only"), true
	case p.is(i, "copy"):
		return i + 1, true
	case p.is(i, "drop") && p.is(i+1, "table"):
		return p.behind(i+2, "if", "exists"), true
	case p.is(i, "alter") && p.is(i+1, "table"):
		return p.behind(i+2, "if", "exists", "only"), true
	}
	return 0, false
}

// behind skips those of the words that stand there.
func (p phrase) behind(i int, words ...string) int {
	for _, w := range words {
		if p.is(i, w) {
			i++
		}
	}
	return i
}

// name reads a relation's name, and gives where the text goes on.
func (p phrase) name(i int) (r Relation, next int, ok bool) {
	if i >= len(p.tokens) {
		return r, i, false
	}
	if r.Name, ok = identifier(p.text, p.tokens[i]); !ok {
		return r, i, false
	}
	if i+2 < len(p.tokens) && p.tokens[i+1].punct(p.text, '.') {
		if name, quoted := identifier(p.text, p.tokens[i+2]); quoted {
			return Relation{Schema: r.Name, Name: name}, i + 3, true
		}
	}
	return r, i + 1, true
}

// writes gives what the statement that begins at the phrase writes. cut says that the text
// may be a part of a statement, which is put together elsewhere.
func (p phrase) writes(cut bool) []BodyWrite {
	at, ok := p.target()
	if !ok {
		return nil
	}
	verb := strings.ToUpper(p.tokens[p.at].text(p.text))
	var all []BodyWrite
	for {
		r, next, ok := p.name(at)
		if !ok || !p.confirms(next, cut) {
			return all
		}
		w := BodyWrite{Verb: verb, Relation: r, Mixed: verb == "MERGE"}
		switch {
		case cut: // not all that it assigns is here
			w.Upsert = verb == "INSERT" && p.find(next, "conflict", "do", "update", "set") > 0
		case verb == "INSERT":
			if at := p.find(next, "conflict", "do", "update", "set"); at > 0 {
				w.Upsert, w.Assigned = true, p.assigned(at)
			}
		case verb == "UPDATE":
			w.Assigned = p.assigned(p.find(next, "set"))
		}
		all = append(all, w)
		if verb != "TRUNCATE" && verb != "DROP" || next >= len(p.tokens) || !p.tokens[next].punct(p.text, ',') {
			return all
		}
		at = p.behind(next+1, "only")
	}
}

// find gives where the text goes on behind the words, which stand in that order before the next semicolon; 0 where they do not.
func (p phrase) find(i int, words ...string) int {
	for ; i < len(p.tokens) && !p.tokens[i].punct(p.text, ';'); i++ {
		if p.is(i, words[0]) {
			if words = words[1:]; len(words) == 0 {
				return i + 1
			}
		}
	}
	return 0
}

// assigned reads the columns of a SET list that begins at i; nil where one of them is no plain name.
func (p phrase) assigned(i int) []string {
	columns, depth, starts := []string{}, 0, true
	for ; i > 0 && i < len(p.tokens) && !p.tokens[i].punct(p.text, ';'); i++ {
		t := p.tokens[i]
		switch {
		case starts:
			name, ok := identifier(p.text, t)
			if !ok || i+1 >= len(p.tokens) || p.tokens[i+1].text(p.text) != "=" {
				return nil
			}
			columns, starts = append(columns, name), false
		case t.punct(p.text, '(') || t.punct(p.text, '['):
			depth++
		case t.punct(p.text, ')') || t.punct(p.text, ']'):
			depth--
		case depth == 0 && t.punct(p.text, ','):
			starts = true
		case depth == 0 && p.is(i, "from", "where", "returning"):
			return columns
		}
	}
	if len(columns) == 0 || starts {
		return nil
	}
	return columns
}

// confirms looks at what follows the name, where the words before it can mean something else.
func (p phrase) confirms(next int, cut bool) bool {
	const alias = 3 // [*] [AS] name
	switch {
	case p.is(p.at, "update"):
		for i := next; i < len(p.tokens) && i <= next+alias; i++ {
			if p.is(i, "set") {
				return true
			}
		}
		return cut && len(p.tokens) <= next+alias
	case p.is(p.at, "copy"):
		for i := next; i < len(p.tokens) && !p.tokens[i].punct(p.text, ';'); i++ {
			if p.is(i, "from") {
				return true
			}
			if p.is(i, "to") {
				return false
			}
		}
		return false
	case p.is(p.at, "truncate"):
		return next >= len(p.tokens) || !p.tokens[next].punct(p.text, '(') // truncate(x) is somebody's function
	case p.is(p.at, "alter"):
		return p.is(next, "detach", "attach", "alter", "drop", "rename", "set", "inherit", "no")
	}
	return true
}
