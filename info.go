package wtcache

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/wtcache/wtcache/rules"
)

// RuleInfo is a rule as it is in force, for programs that show or go through the rules. It holds names and settings, and
// no key of any row.
type RuleInfo struct {
	Table string   `json:"table"` // schema.table, as stored
	File  string   `json:"file"`  // file:line:column of the rule
	Via   []string `json:"via,omitempty"`

	Consistency rules.Consistency `json:"consistency"` // eventual also where Config.Mode says so
	Apply       rules.Apply       `json:"apply"`
	RedisDown   rules.RedisDown   `json:"redis_down"`
	// Capture is how written rows become known: "returning"; "coarse" where they do not, so that every write makes all
	// entries absent, CaptureReason says why; "unknown" until a connection has looked at the catalogue.
	Capture       string `json:"capture"`
	CaptureReason string `json:"capture_reason,omitempty"`

	WaitReplicas       int     `json:"wait_replicas,omitempty"`
	NegativeTTLSeconds float64 `json:"negative_ttl_seconds,omitempty"`

	Entries []EntryInfo `json:"entries"`
	// Invalidate are the templates of the keys that several rows share.
	Invalidate []string `json:"invalidate,omitempty"`
}

// EntryInfo is one key that a row has in Redis, and what is stored there.
type EntryInfo struct {
	Name     string         `json:"name"`
	Read     string         `json:"read"` // what CacheOf's and ReaderOf's readers call it: "users" or "users.by_email"
	Key      string         `json:"key"`  // the template
	Columns  []string       `json:"key_columns"`
	Format   rules.Format   `json:"format"`
	Strategy rules.Strategy `json:"strategy"`
	// TTLSeconds is the longest life of a value; Jitter the part of it by which a life may be shorter.
	TTLSeconds float64 `json:"ttl_seconds"`
	Jitter     float64 `json:"jitter,omitempty"`
	When       string  `json:"when,omitempty"` // SQL over the row's columns
	// Payload names what is stored, in its order. It is nil until a connection has looked at the catalogue.
	Payload []string `json:"payload,omitempty"`
}

// Where a rule's rows are captured or not: RuleInfo.Capture.
const (
	CaptureReturning = "returning"
	CaptureCoarse    = "coarse"
	CaptureUnknown   = "unknown"
)

// RulesOf gives the rules of a *sql.DB that was opened through wtcache, in the order of their files. It asks neither Postgres
// nor Redis; what follows from the catalogue is there once a connection has been opened. The error wraps ErrConfig where the *sql.DB
// was opened otherwise. With ModeOff there are none.
func RulesOf(db *sql.DB) ([]RuleInfo, error) {
	e, err := engineOf(db)
	if err != nil {
		return nil, err
	}
	return e.ruleInfos(e.gen.Load()), nil
}

// ruleInfos describes the rules; gen is nil where they have not been held against the catalogue.
func (e *engine) ruleInfos(gen *generation) []RuleInfo {
	infos := make([]RuleInfo, len(e.rules))
	for i, r := range e.rules {
		infos[i] = e.ruleInfo(r)
		if gen == nil {
			continue
		}
		for _, t := range gen.set.Tables {
			if t.Rule == r {
				infos[i].bind(t, gen)
			}
		}
	}
	return infos
}

func (e *engine) ruleInfo(r *rules.Rule) RuleInfo {
	info := RuleInfo{
		Table: r.Table.String(), File: r.Pos.String(),
		Consistency: r.Consistency, Apply: r.Apply, RedisDown: r.RedisDown, Capture: CaptureUnknown,
		WaitReplicas: r.WaitReplicas, NegativeTTLSeconds: r.NegativeTTL.Seconds(),
	}
	if e.cfg.Mode == ModeEventual {
		info.Consistency = rules.Eventual
	}
	for _, v := range r.Via {
		info.Via = append(info.Via, v.String())
	}
	for _, entry := range r.Entries {
		info.Entries = append(info.Entries, e.entryInfo(r, entry))
	}
	for _, s := range r.Shared {
		info.Invalidate = append(info.Invalidate, s.String())
	}
	return info
}

func (e *engine) entryInfo(r *rules.Rule, entry *rules.Entry) EntryInfo {
	return EntryInfo{
		Name: entry.Name, Read: e.readName(r, entry), Key: entry.Key.String(), Columns: entry.Key.Columns(), Format: entry.Format,
		Strategy: entry.Strategy, TTLSeconds: entry.TTL.Seconds(), Jitter: entry.Jitter, When: entry.When,
	}
}

// readName is the shortest name under which a reader finds the entry: with its schema where two schemas have such a table.
func (e *engine) readName(r *rules.Rule, entry *rules.Entry) string {
	suffix := ""
	if len(r.Entries) > 1 {
		suffix = "." + entry.Name
	}
	for _, name := range []string{r.Table.Table + suffix, r.Table.String() + suffix} {
		if _, err := entryOf(name, e.rules); err == nil {
			return name
		}
	}
	return r.Table.String() + suffix
}

// bind adds what is known from the catalogue.
func (info *RuleInfo) bind(t *rules.Table, gen *generation) {
	info.Capture, info.CaptureReason = CaptureReturning, gen.set.Uncapturable(t)
	if gen.degraded {
		info.CaptureReason = "the rules no longer fit the catalogue"
	}
	if info.CaptureReason != "" {
		info.Capture = CaptureCoarse
	}
	for i, entry := range t.Entries {
		info.Entries[i].Payload = entry.PayloadNames()
	}
}

// String gives the rule in one line: table, consistency, entries.
func (info RuleInfo) String() string {
	text := fmt.Sprintf("%s (%s, %sredis_down: %s)", info.Table, info.Consistency, info.applyWord(), info.RedisDown)
	for _, entry := range info.Entries {
		text += fmt.Sprintf(" %s[%s, %v]", entry.Key, entry.Format, time.Duration(entry.TTLSeconds*float64(time.Second)))
	}
	return text
}

// applyWord names what departs from the default.
func (info RuleInfo) applyWord() string {
	if info.Apply == rules.Async {
		return "apply: async, "
	}
	return ""
}
