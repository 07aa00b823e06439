package rules

import _ "embed"

//go:generate go run ../internal/cmd/ruleschema

//go:embed rule.schema.json
var schemaText string

// Schema gives the JSON Schema of a rule file, for editors: a rule file points to it in
// a first line of the form "# yaml-language-server: $schema=PATH".
func Schema() string { return schemaText }

// File is the shape of a rule file, one table's rule. It is what the JSON Schema is made
// of; Load decodes by the same keys, and knows more than a schema can say.
type File struct {
	// The table, as schema.table. Names are spelled as in SQL: bare ones are folded to
	// lower case, others stand in double quotes. The schema is public by default.
	Table string `json:"table" jsonschema:"minLength=1,example=public.users"`
	// Updatable views of the table, as schema.view, whose writes are writes of the table.
	Via []string `json:"via,omitempty" jsonschema:"uniqueItems=true"`

	// The short form: a rule with one entry has the entry's keys here.
	FileEntry

	// The entries, where the rule has several: each is one key that a row has in Redis.
	Entries []FileEntry `json:"entries,omitempty"`
	// Keys that other rows share: any change of a row makes them absent.
	Invalidate []string `json:"invalidate,omitempty" jsonschema:"uniqueItems=true"`
	// strict waits for fences before a commit, so that no reader ever sees an older
	// value; eventual saves that round trip: writes make entries absent after their
	// commit, and readers may get the old row until then.
	Consistency string `json:"consistency,omitempty" jsonschema:"enum=strict,enum=eventual,default=strict"`
	// sync: a write returns when Redis has what it committed. async: it returns after the
	// commit, and Redis is told behind it; until then the fence keeps readers on the
	// database, or, where consistency is eventual, they get the old row.
	Apply string `json:"apply,omitempty" jsonschema:"enum=sync,enum=async,default=sync"`
	// What a write does when Redis cannot be reached before the commit: queue commits and
	// owes the keys, refuse fails the write.
	RedisDown string `json:"redis_down,omitempty" jsonschema:"enum=queue,enum=refuse,default=queue"`
	// How many replicas of Redis must have a fence before the commit, from 0 to 9. With
	// fewer the write counts as one while Redis is down.
	WaitReplicas int `json:"wait_replicas,omitempty" jsonschema:"default=0,minimum=0,maximum=9"`
	// How written rows are captured.
	Capture string `json:"capture,omitempty" jsonschema:"enum=returning,default=returning"`
	// What orders the writes of a row.
	Version string `json:"version,omitempty" jsonschema:"enum=lsn,default=lsn"`
	// How long the absence of a row is cached, from 1s to 8760h. 0s does not cache it.
	NegativeTTL string `json:"negative_ttl,omitempty" jsonschema:"default=0s"`
	// Defaults of wtcache's reader. The options of a call win over them.
	Read *FileRead `json:"read,omitempty"`
}

// FileRead is the shape of the reader's defaults in a rule file.
type FileRead struct {
	// Entries that are older are read from the database. It is at most the longest ttl of
	// the entries; 0s takes an entry of any age.
	MaxAge string `json:"max_age,omitempty" jsonschema:"default=0s"`
	// Whether a replica of Redis may answer. What it answers can be older than the last
	// commit.
	Replica bool `json:"replica,omitempty" jsonschema:"default=false"`
	// How long to wait for another reader's fill, at most 1m, before reading the database.
	// 0s does not wait.
	Wait string `json:"wait,omitempty"`
}

// FileEntry is the shape of an entry in a rule file.
type FileEntry struct {
	// The entry's name, unique in the rule. By default it is by_ and the key's columns.
	Name string `json:"name,omitempty" jsonschema:"pattern=^[A-Za-z0-9_.-]+$,maxLength=63"`
	// The key template: text with columns in braces, such as user:{id}. Doubled braces
	// are literal ones, for a Redis hash tag: {{org:{org_id}}}:users.
	Key string `json:"key,omitempty" jsonschema:"minLength=3,example=user:{id}"`
	// The columns of the payload. By default it has all columns.
	Columns []string `json:"columns,omitempty" jsonschema:"minItems=1,uniqueItems=true"`
	// Columns that are left out of the payload.
	Omit []string `json:"omit,omitempty" jsonschema:"uniqueItems=true"`
	// Columns that have another name in the payload.
	Rename map[string]string `json:"rename,omitempty"`
	// envelope is JSON with a header (version, time, checksum) around the row; plain is
	// the bare JSON row; hash is a Redis hash with the row in its field data; versioned
	// keeps the bare row under a name of its version, which the key's :current names.
	Format string `json:"format,omitempty" jsonschema:"enum=envelope,enum=plain,enum=hash,enum=versioned,default=envelope"`
	// What a committed write does: write stores the new payload, invalidate makes the key
	// absent.
	Strategy string `json:"strategy,omitempty" jsonschema:"enum=write,enum=invalidate,default=write"`
	// How long a value lives, from 1s to 8760h. Only writes set it.
	TTL string `json:"ttl,omitempty" jsonschema:"default=10m"`
	// The part of the ttl, from 0% to 50%, by which a life is shortened at random.
	Jitter string `json:"jitter,omitempty" jsonschema:"default=10%"`
	// An SQL condition over the row's columns. A row for which it is not true has no such
	// entry.
	When string `json:"when,omitempty" jsonschema:"minLength=1,example=deleted_at IS NULL"`
}
