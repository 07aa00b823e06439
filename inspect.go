package wtcache

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wtcache/wtcache/cachesync"
)

// InspectOptions say what an Inspection holds besides what is in Redis.
type InspectOptions struct {
	Compare bool // compare with the row, as Audit does
	Payload bool // what is stored, which may be nobody else's business
}

// Inspection is all that is known of one key.
type Inspection struct {
	Key string `json:"key"`
	// Entry and Rule are the entry of the rules that the key belongs to, and where it is written; "" for a
	// key of no rule, of which Redis is not asked.
	Entry  string            `json:"entry"`
	Rule   string            `json:"rule,omitempty"`
	Values map[string]string `json:"values,omitempty"` // the key's columns

	State string `json:"state"` // "good", "absent", "other schema", "damaged" or "foreign"
	// Served says whether wtcache's readers are served what is there; WhyNot else.
	Served bool   `json:"served"`
	WhyNot string `json:"why_not,omitempty"`

	Type         string     `json:"type,omitempty"`   // of Redis
	Format       string     `json:"format,omitempty"` // as it is stored
	WantedFormat string     `json:"wanted_format,omitempty"`
	Schema       string     `json:"schema,omitempty"` // as it is stored
	WantedSchema string     `json:"wanted_schema,omitempty"`
	SizeBytes    int        `json:"size_bytes"` // of the payload
	WrittenAt    *time.Time `json:"written_at,omitempty"`
	AgeSeconds   float64    `json:"age_seconds,omitempty"`
	// TTLSeconds is what is left of its life, nil where it does not expire, or is absent.
	TTLSeconds     *float64 `json:"ttl_seconds"`
	RuleTTLSeconds float64  `json:"rule_ttl_seconds,omitempty"`
	// Version is 24 hex digits, all zero for an entry that a reader filled.
	Version string `json:"version,omitempty"`
	// ChecksumOK is false also where there is no checksum to be compared.
	ChecksumOK bool `json:"checksum_ok"`
	SchemaOK   bool `json:"schema_ok"`
	// EpochTrusted: nothing was lost by Redis, or the database, since it was stored, as far as is known.
	EpochTrusted bool `json:"epoch_trusted"`

	// Control state. FenceSeconds has what is left of the life of each writer's token.
	FenceSeconds   []float64 `json:"fence_seconds,omitempty"`
	FenceDirty     bool      `json:"fence_dirty,omitempty"`
	FenceFloor     string    `json:"fence_floor,omitempty"`
	LeaseSeconds   float64   `json:"lease_seconds,omitempty"`   // of a reader that is about to fill it
	BarrierSeconds []float64 `json:"barrier_seconds,omitempty"` // tokens of coarse writes on the rule's barrier
	Owed           bool      `json:"owed,omitempty"`            // this process has committed a change that has not reached Redis

	// Row is how the database's row compares, where that was asked for: "same", "stale",
	// "orphan" (there is no such row), "gone", "fenced", "unserved", "undecided" or
	// "unjudged"; of an absent key "row" or "no row".
	Row string `json:"row,omitempty"`
	// Differs are the names in the payload whose values differ.
	Differs []string `json:"differs,omitempty"`

	Payload json.RawMessage `json:"payload,omitempty"`
}

// KeyOf gives the key of an entry ("users.by_id") for the values of its key's columns, as Cache.Get takes them.
func KeyOf(ctx context.Context, db *sql.DB, entry string, key ...any) (string, error) {
	c, err := CacheOf(db)
	if err != nil {
		return "", err
	}
	t, err := c.find(ctx, entry)
	if err != nil {
		return "", err
	}
	a, err := t.ask(key)
	return a.key, err
}

// Inspect looks at one key: what is stored there, what belongs to it, and whether readers are
// served it. It changes nothing. Errors wrap ErrUnavailable for a Redis that does not answer.
func Inspect(ctx context.Context, db *sql.DB, key string, opts InspectOptions) (*Inspection, error) {
	c, err := CacheOf(db)
	if err != nil {
		return nil, err
	}
	gen, err := c.generation(ctx)
	if err != nil {
		return nil, err
	}
	i := &Inspection{Key: key, State: cachesync.EntryAbsent.String()}
	t, ask, ok := gen.owner(key)
	if !ok {
		i.WhyNot = "the key belongs to no entry of the rules"
		return i, nil
	}
	i.belongs(t, ask)
	a := newAuditor(c, AuditOptions{})
	if err := a.ask(ctx); err != nil {
		return nil, err
	}
	found, err := a.examine(ctx, t, []asked{ask})
	if err != nil {
		return nil, err
	}
	i.holds(t, &found[0])
	for _, left := range c.engine.sync.Examine(ctx, []string{t.table.Barrier}, cachesync.Envelope, "")[0].Tokens {
		i.BarrierSeconds = append(i.BarrierSeconds, left.Seconds())
	}
	i.serve(ctx, c, t, &found[0])
	if payload := found[0].Value.Payload; opts.Payload && len(payload) > 0 {
		if i.Payload = payload; !json.Valid(payload) {
			i.Payload, _ = json.Marshal(string(payload)) // a string always has JSON
		}
	}
	if opts.Compare {
		err = i.compare(ctx, a, t, ask)
	}
	return i, err
}

// owner gives the entry that a key belongs to.
func (g *generation) owner(key string) (target, asked, bool) {
	for _, t := range g.set.Tables {
		for _, e := range t.Entries {
			found := target{t.Name.String() + "." + e.Name, g, t, e}
			if texts, ok := e.Key.Values(key); ok && found.mayHold(texts) {
				return found, asked{texts, key}, true
			}
		}
	}
	return target{}, asked{}, false
}

func (i *Inspection) belongs(t target, a asked) {
	i.Entry, i.Rule = t.name, t.table.Rule.At(t.entry.Path+".key").String()
	i.WantedFormat, i.WantedSchema = t.format().String(), t.entry.Schema
	i.Values = map[string]string{}
	for n, column := range t.entry.Key.Columns() {
		i.Values[column] = a.texts[n]
	}
}

func (i *Inspection) holds(t target, e *cachesync.Examined) {
	i.State, i.Type = e.State.String(), e.Type
	for _, left := range e.Tokens {
		i.FenceSeconds = append(i.FenceSeconds, left.Seconds())
	}
	i.FenceDirty, i.FenceFloor, i.LeaseSeconds = e.Dirty, e.Floor, e.Lease.Seconds()
	if e.State == cachesync.EntryAbsent {
		i.Type = ""
		return
	}
	if e.Life > 0 {
		left := e.Life.Seconds()
		i.TTLSeconds = &left
	}
	i.RuleTTLSeconds = t.life(e.Value.Payload).Seconds()
	if e.State == cachesync.EntryForeign {
		return
	}
	i.Format, i.Schema, i.SizeBytes, i.Version = e.Format.String(), e.Schema, len(e.Value.Payload), e.Value.Version
	i.SchemaOK = e.Format == t.format() && strings.EqualFold(e.Schema, t.entry.Schema)
	i.ChecksumOK = e.State == cachesync.EntryGood
	i.EpochTrusted = !e.Distrusted && e.Untrusted == nil
	if !e.Value.WrittenAt.IsZero() {
		i.WrittenAt, i.AgeSeconds = &e.Value.WrittenAt, e.Age.Seconds()
	}
}

// serve says whether readers are served what is there.
func (i *Inspection) serve(ctx context.Context, c *Cache, t target, e *cachesync.Examined) {
	i.Owed = c.engine.owes(e.Key)
	life := t.life(e.Value.Payload)
	switch {
	case len(e.Tokens) > 0:
		i.WhyNot = "a commit is under way: its fence is on the key"
	case e.Headless:
		i.WhyNot = "its header is gone, which has a key of its own: it was evicted, or another program has put the value there"
	case e.State != cachesync.EntryGood:
		i.WhyNot = map[cachesync.EntryState]string{
			cachesync.EntryAbsent:      "nothing is stored",
			cachesync.EntryOtherSchema: "it is of another schema or format: of a release with other rules",
			cachesync.EntryDamaged:     "its checksum does not fit its payload",
			cachesync.EntryForeign:     "it is no entry: another program has put it there",
		}[e.State]
	case e.Distrusted:
		i.WhyNot = "it was stored before Redis, or the database, lost data"
	case e.Untrusted != nil:
		i.WhyNot = e.Untrusted.Error()
	case life > 0 && e.Age > life+auditSlack:
		i.WhyNot = "it has outlived its rule's ttl"
	case i.Owed:
		i.WhyNot = "a change is owed to it"
	case !c.engine.watched(ctx, t.table, 0):
		i.WhyNot = "another process may be writing past Redis just now, or the database did not say"
	default:
		i.Served = true
	}
}

// compare judges the key as Audit does.
func (i *Inspection) compare(ctx context.Context, a *auditor, t target, ask asked) error {
	all, err := a.meetAll(ctx, t, []asked{ask})
	if err == nil {
		err = a.settle(ctx, t, all)
	}
	if err != nil {
		return fmt.Errorf("compare %s with its row: %w", ask.key, err)
	}
	s := all[0]
	i.Row = map[auditVerdict]string{
		isConsistent: "same", isStale: "stale", isOrphan: "orphan", isDamaged: "damaged", isForeign: "foreign", isSkipped: "no row",
		isOtherSchema: "other schema", isFenced: "fenced", isUnserved: "unserved", isUndecided: "undecided", isUnjudged: "unjudged",
	}[s.verdict]
	if s.verdict == isGone {
		if i.Row = "no row"; s.fact.found {
			i.Row = "row"
		}
	}
	if s.verdict != isConsistent && s.fact.found && len(s.entry.Value.Payload) > 0 {
		i.Differs = differing(s.entry.Value.Payload, s.fact.payload)
	}
	return nil
}

// differing names what differs between two objects.
func differing(a, b []byte) []string {
	var one, other map[string]json.RawMessage
	if json.Unmarshal(a, &one) != nil || json.Unmarshal(b, &other) != nil {
		return nil
	}
	var names []string
	for name, value := range other {
		if old, ok := one[name]; !ok || string(old) != string(value) {
			names = append(names, name)
		}
	}
	for name := range one {
		if _, ok := other[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
