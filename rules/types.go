// Package rules holds the rule files: their types, how they are read and
// validated, the key templates, the JSON Schema for editors, and what the live
// catalogue says about them. It knows SQL and YAML and nothing of Redis.
package rules

import (
	"fmt"
	"strings"
	"time"
)

// Pos is a place in a rule file. Lines and columns count from 1; a zero Line
// means that the place is the file as a whole.
type Pos struct {
	File         string
	Line, Column int
}

// String gives "file:line:column", the form that editors and terminals link.
func (p Pos) String() string {
	switch {
	case p.Line == 0:
		return p.File
	default:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
}

// Name is a relation's name as Postgres stores it (already folded). An empty
// Schema is resolved as "public".
type Name struct {
	Schema, Table string
}

// String gives the name in the form of a rule file: schema.table.
func (n Name) String() string {
	if n.Schema == "" {
		return n.Table
	}
	return n.Schema + "." + n.Table
}

// Format says how an entry is stored under its key.
type Format string

// Strategy says what a committed write does to an entry.
type Strategy string

// Consistency says whether a commit waits for fences.
type Consistency string

// Apply says whether a write waits, after COMMIT, until Redis has what was committed.
type Apply string

// RedisDown says what a write does when Redis cannot be fenced before COMMIT.
type RedisDown string

// The values that a rule file may name.
const (
	FormatEnvelope  Format = "envelope"
	FormatPlain     Format = "plain"
	FormatHash      Format = "hash"
	FormatVersioned Format = "versioned"

	StrategyWrite      Strategy = "write"
	StrategyInvalidate Strategy = "invalidate"

	Strict   Consistency = "strict"
	Eventual Consistency = "eventual"

	Sync  Apply = "sync"
	Async Apply = "async"

	Refuse RedisDown = "refuse"
	Queue  RedisDown = "queue"
)

// Defaults of a rule file.
const (
	DefaultTTL    = 10 * time.Minute
	DefaultJitter = 0.10
)

// Rule is one table's rule file, with every default filled in. It is immutable
// once loaded and safe for concurrent use.
type Rule struct {
	Table       Name
	Via         []Name
	Entries     []*Entry
	Shared      []*Template // `invalidate:` keys that several rows share
	Consistency Consistency
	Apply       Apply
	RedisDown   RedisDown
	// WaitReplicas is how many replicas of Redis must have a fence before COMMIT; 0: none.
	WaitReplicas int
	NegativeTTL  time.Duration // for how long "no such row" is cached; 0: it is not
	Read         ReadDefaults

	// Pos is where `table` is named; pos holds the other places by their path in
	// the file ("entries[0].key", "via[1]", "invalidate[0]", "entries[0].columns[2]").
	Pos Pos
	pos map[string]Pos
}

// ReadDefaults are a rule's defaults for wtcache's reader; the options of a call win.
type ReadDefaults struct {
	MaxAge  time.Duration // older entries are read from the database; 0: any age
	Replica bool          // a replica of Redis may answer
	// Wait is how long to wait for another reader's fill before reading the database:
	// 0 is not to wait, nil that the rule does not say.
	Wait *time.Duration
}

// At gives the place of a path in the rule's file. Where the path is not written there
// (a default), it is the place of the nearest path around it that is, in the end the
// rule's. A leading dot is ignored, so that entry.Path+".key" is right for the two-line
// form too.
func (r *Rule) At(path string) Pos {
	path = strings.TrimPrefix(path, ".")
	for path != "" {
		if p, ok := r.pos[path]; ok {
			return p
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return r.Pos
}

// Globs gives the Redis patterns that all keys of the rule match.
func (r *Rule) Globs() []string {
	var globs []string
	for _, e := range r.Entries {
		globs = append(globs, e.Key.Glob())
	}
	for _, s := range r.Shared {
		globs = append(globs, s.Glob())
	}
	return globs
}

// Entry is one key that a row of the table has in Redis, and what is stored
// there.
type Entry struct {
	Name     string // unique in the rule; "by_" + key columns joined by "_" by default
	Key      *Template
	Columns  []string          // empty: every column of the table
	Omit     []string          // columns left out
	Rename   map[string]string // column to name in the payload
	Format   Format
	Strategy Strategy
	TTL      time.Duration // of a value; never zero
	Jitter   float64       // 0 to 1: the part of TTL by which a life may be shortened at random
	When     string        // SQL over the row's columns, "" for always

	Path string // its path in the file: "entries[0]", or "" for the two-line form
}

// Finding is one thing wrong with a rule: where, what, and what to write instead.
type Finding struct {
	Pos     Pos
	Problem string
	Fix     string // "" where the problem says it all
	// Blind marks a warning of Bind about a way to write a table that is not seen, or not precisely.
	Blind bool
}

// String gives "file:line:column: problem; fix".
func (f Finding) String() string {
	if f.Fix == "" {
		return f.Pos.String() + ": " + f.Problem
	}
	return f.Pos.String() + ": " + f.Problem + "; " + f.Fix
}
