package blindspots

import (
	"slices"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// world is the database as this package sees it.
type world struct {
	facts
	set     *rules.Set
	session *rules.Session
	found   []cachesync.Finding
	said    map[cachesync.Finding]bool
	access  access

	byOID    map[uint32]*relation
	byName   map[rules.Name]*relation
	byBare   map[string][]*relation
	byFn     map[uint32]*routine
	fnByBare map[string][]*routine
	bodies   map[*routine]*parser.Body

	reach   map[*rules.Table]map[uint32]how
	leads   map[uint32]map[*rules.Table]map[int]step // by the bit of the verb: onInsert, …
	effects map[*routine]map[*rules.Table]step
	// calledBy has for each table the functions that write it by calling another one.
	calledBy map[*rules.Table]map[*routine][]*routine
}

// how a relation is reached from a ruled table. It is what rules.Set goes by: a statement on any of
// them is followed, precisely or coarsely.
type how int

const (
	itself how = iota + 1
	below      // a partition or inheritance child
	above      // an ancestor
	over       // a view over it, or a table with a rewrite rule that names it
)

// step is how a write goes on towards a ruled table.
type step struct {
	text    string    // "foreign key orders_user_fkey", "line 3: UPDATE public.users"
	certain bool      // that it writes: the text shows it, and it is not only a string or a name
	direct  bool      // of a function: it writes by itself, and not by what it calls
	next    *relation // that is written
	verb    int       // the bit of how
	calls   *routine  // that is called
	adds    bool      // it only inserts rows of the table, whose keys have no entries
	columns []string  // of a foreign key that acts on UPDATE: those that have to be assigned
}

func (w *world) closeOver() {
	w.byOID, w.byName, w.byBare = map[uint32]*relation{}, map[rules.Name]*relation{}, map[string][]*relation{}
	for _, r := range w.relations {
		w.byOID[r.OID], w.byName[r.name()] = r, r
		w.byBare[r.Name] = append(w.byBare[r.Name], r)
	}
	w.byFn, w.fnByBare = map[uint32]*routine{}, map[string][]*routine{}
	w.bodies = map[*routine]*parser.Body{}
	for _, f := range w.facts.routines {
		w.byFn[f.OID] = f
		w.fnByBare[f.Name] = append(w.fnByBare[f.Name], f)
		w.bodies[f] = bodyOf(f)
	}
	w.reach = map[*rules.Table]map[uint32]how{}
	for _, t := range w.set.Tables {
		w.reach[t] = w.reached(t.OID)
	}
}

// reached follows rules.Catalog's own closure.
func (w *world) reached(root uint32) map[uint32]how {
	found := map[uint32]how{root: itself}
	for queue := []uint32{root}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		add := func(oid uint32, h how) {
			if old, known := found[oid]; !known || h < old {
				found[oid] = h
				queue = append(queue, oid)
			}
		}
		for _, i := range w.inherits {
			if i.Parent == at && found[at] <= below {
				add(i.Child, below)
			}
			if i.Child == at && (found[at] == itself || found[at] == above) {
				add(i.Parent, above)
			}
		}
		for _, d := range w.depends {
			if d.On == at {
				add(d.By, over)
			}
		}
	}
	return found
}

// resolve gives the relations that a name in a function's body may mean: the one that its search_path leads to, else all
// of the name, since it may run under another one.
func (w *world) resolve(f *routine, name parser.Relation) []*relation {
	if name.Schema != "" {
		if r := w.byName[rules.Name{Schema: name.Schema, Table: name.Name}]; r != nil {
			return []*relation{r}
		}
		return nil
	}
	for _, schema := range w.pathOf(f) {
		if r := w.byName[rules.Name{Schema: schema, Table: name.Name}]; r != nil {
			return []*relation{r}
		}
	}
	if len(f.Path) > 0 {
		return nil
	}
	return w.byBare[name.Name]
}

// pathOf gives the schemas that a function looks bare names up in: its own search_path; else the session's. A function of a
// schema that is not in this one is called by those who work there (one schema a tenant): its own schema comes first.
func (w *world) pathOf(f *routine) []string {
	if path := f.schemas(); path != nil {
		for i, schema := range path {
			if schema == "$user" {
				path[i] = w.settings["role"]
			}
		}
		return path
	}
	if f.Schema == "" || slices.Contains(w.path, f.Schema) {
		return w.path
	}
	return append([]string{f.Schema}, w.path...)
}

// called gives the functions that a call in f may mean.
func (w *world) called(f *routine, name parser.Relation) []*routine {
	all := w.fnByBare[name.Name]
	in := func(schema string) (found []*routine) {
		for _, g := range all {
			if g.Schema == schema {
				found = append(found, g)
			}
		}
		return found
	}
	if name.Schema != "" {
		return in(name.Schema)
	}
	for _, schema := range w.pathOf(f) {
		if found := in(schema); len(found) > 0 {
			return found
		}
	}
	return all
}

// rows says that a relation holds rows of the table.
func (w *world) rows(t *rules.Table, oid uint32) bool {
	h := w.reach[t][oid]
	return h == itself || h == below
}

// own says that the driver knows of triggers on the relation that write the table, and makes every write of it coarse.
func (w *world) own(t *rules.Table, r *relation) bool {
	return slices.ContainsFunc(w.set.Relatives, func(x rules.Relative) bool { return x.Table == t && x.Own && x.Name == r.name() })
}
