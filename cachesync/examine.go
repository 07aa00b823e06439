package cachesync

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
)

// examineLua looks at all that belongs to one key, in one step. It changes nothing: not even
// tokens that are past their expiry are dropped. No reader or writer runs it, so that it
// is no part of the protocol, and a user who may not run a command of it loses that part of the answer.
//
// KEYS -> key, control key, meta sibling, pointer
// Returns names and values in turn: of what is not there, neither.
const examineLua = `
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local out = {'now', string.format('%.0f', now)}
local function put(name, value)
  if type(value) == 'number' then value = string.format('%.0f', value) end
  if type(value) == 'string' then out[#out + 1] = name; out[#out + 1] = value end
end
local function kind(name)
  local reply = redis.pcall('TYPE', name)
  return reply.ok or 'none'
end
local key, ctl, meta, pointer = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local is = kind(key)
put('type', is)
if is ~= 'none' then put('life', redis.pcall('PTTL', key)) end
if is == 'string' then put('value', redis.pcall('GET', key)) end
if is == 'hash' then
  for _, field in ipairs({'data', 'version', 'written_at', 'checksum', 'schema'}) do put('hash ' .. field, redis.pcall('HGET', key, field)) end
end
put('meta', redis.pcall('GET', meta))
local name = redis.pcall('GET', pointer)
if type(name) == 'string' then
  put('pointer', name)
  put('pointer life', redis.pcall('PTTL', pointer))
  local names = string.sub(pointer, 1, -8) .. 'v'
  if string.sub(name, 1, #names) == names then put('pointed', redis.pcall('GET', name)) end
end
local control = kind(ctl)
if control == 'string' then
  local text, left = redis.pcall('GETRANGE', ctl, 0, 1), redis.pcall('PTTL', ctl)
  if text == 'f:' then
    if type(left) == 'number' and left > 0 then put('token', left) end
  elseif type(text) == 'string' then
    put('lease', left)
  end
end
if control == 'hash' then
  local fields = redis.pcall('HGETALL', ctl)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 't:' then
      local left = tonumber(fields[i + 1]) - now
      if left > 0 then put('token', left) end
    else
      put('control ' .. fields[i], fields[i + 1])
    end
  end
end
return out`

var examineScript = newBareScript(examineLua)

// EntryState is what is found under a key.
type EntryState int

// The states.
const (
	EntryAbsent EntryState = iota
	// EntryGood: an entry of the format and schema, whose checksum fits.
	EntryGood
	// EntryOtherSchema: an entry of another schema or format. It counts as absent for readers.
	EntryOtherSchema
	// EntryDamaged: an entry whose checksum does not fit its payload, or whose header is odd.
	EntryDamaged
	// EntryForeign: what stands there is no entry of any format.
	EntryForeign
)

var entryStateNames = [...]string{"absent", "good", "other schema", "damaged", "foreign"}

// String gives the word.
func (s EntryState) String() string {
	if s < 0 || int(s) >= len(entryStateNames) {
		return "EntryState(" + strconv.Itoa(int(s)) + ")"
	}
	return entryStateNames[s]
}

// Examined is all that is known of one key at one moment.
type Examined struct {
	Key   string
	State EntryState
	// Type is the key's type as Redis names it; that of its pointer where the entry is Versioned.
	Type string
	// Format and Schema are the entry's own, which need not be the rule's.
	Format Format
	Schema string
	// Value is what its header and payload say, also where State is EntryDamaged or EntryOtherSchema.
	Value Value
	// Age is the time since the value was stored, by the clock of the server; negative
	// where that is in the future.
	Age time.Duration
	// Life is what is left of its life. Endless says that it has none; else 0 says that this is not known.
	Life    time.Duration
	Endless bool
	// Headless: of a plain or versioned entry the header is not there, which has a key of its own and may be evicted before
	// the payload is. The State is EntryForeign or EntryDamaged then, and Value has the payload alone.
	Headless bool
	// Distrusted: it was stored before Redis, or the database, lost data, and counts as absent for readers.
	Distrusted bool
	// Untrusted says why nothing of this server may be served just now; nil where it may.
	Untrusted error
	// Tokens are what is left of the lives of the fence's tokens, none where there is no fence.
	Tokens []time.Duration
	Dirty  bool
	Floor  string
	// Lease is what is left of a reader's lease, 0 where there is none.
	Lease time.Duration
	// Err wraps ErrUnavailable or the context's error; then nothing else is known.
	Err error

	texts []string // by which it is known again
}

// Same says whether two looks at a key have met one entry, stored once.
func (e *Examined) Same(o *Examined) bool {
	return e.State != EntryAbsent && e.State == o.State && slices.Equal(e.texts, o.texts)
}

// Examine looks at several keys, each in one step, in one pipeline to each server. It changes
// nothing, and counts nothing as a reader would. What is found may be served to readers only
// if it is good and neither Distrusted nor Untrusted. The results are in the keys' order.
func (c *Client) Examine(ctx context.Context, keys []string, format Format, schema string) []Examined {
	found := make([]Examined, len(keys))
	var calls []*call
	var at []int
	for i, key := range keys {
		found[i].Key = key
		if names, ok := siblingsOf(key); ok {
			calls, at = append(calls, examineScript.on(names)), append(at, i)
		}
	}
	trusted := c.trust.now()
	c.run(ctx, calls...)
	for j, k := range calls {
		e := &found[at[j]]
		texts, err := k.texts()
		if err != nil {
			e.Err = err
			continue
		}
		e.Untrusted = c.mistrust(trusted, k.answerer)
		e.read(texts, format, schema)
		e.Distrusted = e.State == EntryGood && k.known.distrusts(e.Value)
	}
	return found
}

// read takes the script's answer apart.
func (e *Examined) read(texts []string, format Format, schema string) {
	found := map[string]string{}
	for i := 0; i+1 < len(texts); i += 2 {
		if name := texts[i]; name == "token" {
			e.Tokens = append(e.Tokens, millisOf(texts[i+1]))
		} else {
			found[name] = texts[i+1]
		}
	}
	e.Dirty, e.Floor, e.Lease = found["control dirty"] != "", found["control floor"], max(millisOf(found["lease"]), 0)
	e.Type = found["type"]
	if e.Type == "none" && found["pointer"] == "" {
		return
	}
	e.judge(found, format, schema)
	life := found["life"]
	if e.State != EntryForeign && e.Format == Versioned {
		e.Type, life = "string", found["pointer life"]
	}
	e.Life, e.Endless = max(millisOf(life), 0), life == "-1"
	if !e.Value.WrittenAt.IsZero() {
		now, _ := strconv.ParseInt(found["now"], 10, 64)
		e.Age = time.Duration(now-e.Value.WrittenAt.UnixMilli()) * time.Millisecond
	}
}

// judge decodes what is there in the format that is wanted, and where that fails in the others.
func (e *Examined) judge(found map[string]string, format Format, schema string) {
	e.State = EntryForeign
	for _, f := range []Format{format, Envelope, Plain, Hash, Versioned} {
		texts := textsFor(found, f)
		h, payload, ok := split(f, texts)
		if !ok || !isHex(h.schema, schemaDigits) {
			continue
		}
		e.Format, e.Schema, e.texts = f, strings.ToLower(h.schema), texts
		e.State = EntryOtherSchema
		e.Value = Value{Payload: []byte(payload), Version: h.version}
		if written, err := strconv.ParseInt(h.written, 10, 64); err == nil {
			e.Value.WrittenAt = time.UnixMilli(written)
		}
		if f != format {
			return
		}
		switch value, v := decode(f, texts, schema); v {
		case valid:
			e.State, e.Value = EntryGood, value
		case damaged:
			e.State = EntryDamaged
		}
		return
	}
	_, pointed := found["pointed"]
	switch dangles := found["pointer"] != "" && found["type"] == "none" && isVersion(found["pointer"]); {
	case dangles && !pointed:
		e.State = EntryAbsent // what it names was evicted
		return
	case dangles:
		e.State, e.Format, e.texts = EntryDamaged, Versioned, []string{found["pointer"]}
	}
	if found["meta"] != "" {
		return
	}
	switch {
	case e.State == EntryDamaged && format == Versioned:
		e.Headless, e.Value.Payload = true, []byte(found["pointed"])
	case e.State == EntryForeign && format == Plain && found["type"] == "string":
		e.Headless, e.Value.Payload = true, []byte(found["value"])
	}
	if e.Headless {
		e.texts = []string{found["pointer"], string(e.Value.Payload)}
	}
}

// textsFor gives the texts that decode reads of a format.
func textsFor(found map[string]string, format Format) []string {
	names := [...][]string{
		Envelope: {"value"}, Plain: {"value", "meta"},
		Hash:      {"hash data", "hash version", "hash written_at", "hash checksum", "hash schema"},
		Versioned: {"pointer", "pointed", "meta"},
	}[format]
	texts := make([]string, 0, len(names))
	for _, name := range names {
		if text, ok := found[name]; ok {
			texts = append(texts, text)
		}
	}
	return texts
}

func millisOf(text string) time.Duration {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}
