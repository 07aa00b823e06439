package rules

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Querier runs one SQL text without parameters on the connection that is looked at and
// gives every cell as text, nil for NULL. All texts that this package sends are single
// SELECTs whose columns are text. Errors of the server should have a method
// SQLState() string (pgconn.PgError has it): LoadCatalog then tells a faulty `when`
// from a broken connection.
type Querier func(ctx context.Context, sql string) ([][]*string, error)

// Catalog is what the database's catalogue says about the rules' tables, at one
// moment. It is immutable and safe for concurrent use.
type Catalog struct {
	digest    string
	relations map[uint32]*relation
	byName    map[Name]*relation
	reaches   []reach
	types     map[uint32]*sqlType
	views     map[uint32]viewOrigin
	whens     map[*Entry]string // the server's message about a faulty `when`
	blind     []blindSpot
	around    map[Name][]Name // a blind spot's table to its ancestors and the views over it
	names     []knownRelation // for "did you mean"; only where a name was not found
	recovery  bool
}

// relation is a table, a partition, a view: whatever the rules name or reach.
type relation struct {
	OID         uint32
	Schema      string
	Name        string
	Kind        string // pg_class.relkind
	Persistence string
	RowSecurity bool
	Partition   bool
	Updatable   int   // of a view: 1<<CMD bits, without its triggers
	Invoker     bool  // a view that reads with its caller's rights
	Rules       int   // enabled rewrite rules, a view's own SELECT rule not counted
	Rows        int64 // about as many as it holds itself; 0 where that is not known

	columns  []*column // of ruled tables and named views alone
	indexes  []uniqueIndex
	triggers []trigger
}

func (r *relation) name() Name { return Name{r.Schema, r.Name} }

func (r *relation) column(name string) *column {
	for _, c := range r.columns {
		if c.Name == name {
			return c
		}
	}
	return nil
}

type column struct {
	Rel   uint32
	Num   int
	Name  string
	Type  uint32
	Mod   int
	Exact bool // its collation is deterministic, or it has none
	// Generated is pg_attribute.attgenerated: "" for an ordinary column.
	Generated string

	typ *sqlType
}

// sqlType is a row of pg_type with what its text is made of.
type sqlType struct {
	OID      uint32
	Schema   string
	Name     string
	Kind     string // pg_type.typtype
	Category string
	Base     uint32 // of a domain
	Mod      int    // of a domain
	Elem     uint32 // of an array
	Sub      uint32 // of a range or multirange
	Fields   []struct {
		Name string
		Type uint32
	}
	Labels []string
	Equal  *string // the schema of its own "=", nil where it has none
}

// sql is the type's name for a cast. With its schema it has no hidden modifier: a bare
// "character" or "bit" would cut values to length 1.
func (t *sqlType) sql() string {
	if t.Schema == "pg_catalog" && isPlainWord(t.Name) {
		return "pg_catalog." + t.Name
	}
	return sqlIdent(t.Schema) + "." + sqlIdent(t.Name)
}

type uniqueIndex struct {
	Rel       uint32
	Name      string
	Immediate bool
	Valid     bool
	Partial   bool
	Expr      bool
	Cols      []string
}

type trigger struct {
	Rel  uint32
	Name string
	Type int // pg_trigger.tgtype
}

// The bits of pg_trigger.tgtype that matter here.
const (
	triggerBefore  = 1 << 1
	triggerInstead = 1 << 6
)

func (t trigger) before() bool  { return t.Type&triggerBefore != 0 }
func (t trigger) instead() bool { return t.Type&triggerInstead != 0 }
func (t trigger) after() bool   { return t.Type&(triggerBefore|triggerInstead) == 0 }

// How a relation is reached from a ruled table.
const (
	reachSelf = "self"
	reachDown = "down" // a partition or inheritance child, at any depth
	reachUp   = "up"   // an ancestor
	reachRule = "rule" // a view over it, or a table whose rewrite rule names it
)

type reach struct {
	Root, OID uint32
	How       string
}

// LoadCatalog asks the database about the rules' tables: two queries, one more where
// rules name views or have a `when`, where foreign keys or triggers act on a table, or where
// a name is not found. It must not run
// inside a transaction that matters: a faulty `when` is found by an error of the
// server. It gives an error only where the server cannot be asked; what is wrong with
// the rules is for Bind to say.
func LoadCatalog(ctx context.Context, q Querier, rules []*Rule) (*Catalog, error) {
	c := &Catalog{
		relations: map[uint32]*relation{},
		byName:    map[Name]*relation{},
		types:     map[uint32]*sqlType{},
		views:     map[uint32]viewOrigin{},
		whens:     map[*Entry]string{},
	}
	if len(rules) == 0 {
		return c, nil
	}
	steps := []struct {
		what string
		run  func(context.Context, Querier, []*Rule) error
	}{
		{"tables", c.loadFacts},
		{"views", c.loadViews},
		{"conditions", c.checkWhens},
		{"blind spots", c.loadBlindSpots},
		{"around blind spots", c.loadAround},
		{"names", c.loadNames},
	}
	for _, s := range steps {
		if err := s.run(ctx, q, rules); err != nil {
			return nil, fmt.Errorf("read catalogue (%s): %w", s.what, err)
		}
	}
	return c, nil
}

func (c *Catalog) loadFacts(ctx context.Context, q Querier, rules []*Rule) error {
	rows, err := q(ctx, namedSQL(rules)+closureSQL+factsSQL+" SELECT kind, body FROM facts UNION ALL SELECT 'digest', ("+digestSQL+
		") UNION ALL SELECT 'recovery', pg_catalog.pg_is_in_recovery()::pg_catalog.text UNION ALL "+rowsSQL)
	if err != nil {
		return err
	}
	var columns []*column
	var indexes []uniqueIndex
	var triggers []trigger
	var counts []rowCount
	for _, row := range rows {
		kind, body, err := twoCells(row)
		if err != nil {
			return err
		}
		switch kind {
		case "digest":
			c.digest = body
		case "recovery":
			c.recovery = body == "true"
		case "rel":
			err = decodeFact(body, func(r *relation) { c.relations[r.OID] = r; c.byName[r.name()] = r })
		case "reach":
			err = decodeFact(body, func(r *reach) { c.reaches = append(c.reaches, *r) })
		case "type":
			err = decodeFact(body, func(t *sqlType) { c.types[t.OID] = t })
		case "att":
			err = decodeFact(body, func(a *column) { columns = append(columns, a) })
		case "idx":
			err = decodeFact(body, func(i *uniqueIndex) { indexes = append(indexes, *i) })
		case "trg":
			err = decodeFact(body, func(t *trigger) { triggers = append(triggers, *t) })
		case "rows":
			err = decodeFact(body, func(n *rowCount) { counts = append(counts, *n) })
		}
		if err != nil {
			return fmt.Errorf("decode %s: %w", kind, err)
		}
	}
	c.attach(columns, indexes, triggers)
	for _, n := range counts {
		if r := c.relations[n.Rel]; r != nil {
			r.Rows = n.Rows
		}
	}
	return nil
}

// rowCount is an estimate of the server's.
type rowCount struct {
	Rel  uint32
	Rows int64
}

func decodeFact[T any](body string, use func(*T)) error {
	v := new(T)
	if err := json.Unmarshal([]byte(body), v); err != nil {
		return err
	}
	use(v)
	return nil
}

func twoCells(row []*string) (string, string, error) {
	if len(row) != 2 || row[0] == nil || row[1] == nil {
		return "", "", fmt.Errorf("decode row of %d cells: want two texts", len(row))
	}
	return *row[0], *row[1], nil
}

// attach gives the relations their parts, each in an order of its own that does not
// depend on the order of the rows.
func (c *Catalog) attach(columns []*column, indexes []uniqueIndex, triggers []trigger) {
	for _, a := range columns {
		a.typ = c.types[a.Type]
		if r := c.relations[a.Rel]; r != nil && a.typ != nil {
			r.columns = append(r.columns, a)
		}
	}
	for _, i := range indexes {
		if r := c.relations[i.Rel]; r != nil {
			r.indexes = append(r.indexes, i)
		}
	}
	for _, t := range triggers {
		if r := c.relations[t.Rel]; r != nil {
			r.triggers = append(r.triggers, t)
		}
	}
	for _, r := range c.relations {
		slices.SortFunc(r.columns, func(a, b *column) int { return a.Num - b.Num })
		slices.SortFunc(r.indexes, func(a, b uniqueIndex) int { return strings.Compare(a.Name, b.Name) })
		slices.SortFunc(r.triggers, func(a, b trigger) int { return strings.Compare(a.Name, b.Name) })
	}
	slices.SortFunc(c.reaches, func(a, b reach) int {
		return cmp.Or(cmp.Compare(a.OID, b.OID), strings.Compare(a.How, b.How), cmp.Compare(a.Root, b.Root))
	})
}

// base follows domains to the type below them.
func (c *Catalog) base(t *sqlType) *sqlType {
	for t.Kind == "d" {
		below := c.types[t.Base]
		if below == nil {
			return t
		}
		t = below
	}
	return t
}

// modOf is the modifier that counts for a column: its own, or its domain's.
func (c *Catalog) modOf(a *column) int {
	mod := a.Mod
	for t := a.typ; mod < 0 && t != nil && t.Kind == "d"; t = c.types[t.Base] {
		mod = t.Mod
	}
	return mod
}
