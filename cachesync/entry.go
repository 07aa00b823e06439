package cachesync

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Format says how an entry is stored under its key.
type Format uint8

const (
	// Envelope is one JSON string: a header at fixed offsets, then the payload
	// under "data".
	Envelope Format = iota
	// Plain is the bare payload, with the header in a sibling key of the same
	// life.
	Plain
	// Hash is a Redis hash with the fields data, version, written_at, checksum
	// and schema.
	Hash
	// Versioned is the bare payload under a name of its version, a pointer that
	// holds this name, and the header in a sibling key of the pointer's life.
	Versioned
)

var formatNames = [...]string{"envelope", "plain", "hash", "versioned"}

// String gives the name that rule files and scripts use.
func (f Format) String() string {
	if int(f) < len(formatNames) {
		return formatNames[f]
	}
	return "format " + strconv.Itoa(int(f))
}

// FormatOf gives the format of a name, and false for a name that is none's.
func FormatOf(name string) (Format, bool) {
	i := slices.Index(formatNames[:], name)
	return Format(max(i, 0)), i >= 0
}

// endsHeader says whether the header stands by itself, not before the payload.
func (f Format) endsHeader() bool { return f == Plain || f == Versioned }

// Entry is what a committed write, or a reader's fill, stores under a key.
type Entry struct {
	// Payload is the stored bytes, JSON in an envelope. Empty means none: the
	// key becomes absent and the other fields do not matter.
	Payload []byte
	// Version is the change's place in commit order: 24 hex digits. A fill's
	// version is always 0, whatever stands here.
	Version string
	// Schema is the fingerprint of the payload's shape: 8 hex digits.
	Schema string
	// TTL is the life of the value, at least a millisecond; Jitter, from 0 to
	// 1, is the part of it by which the life is shortened at random.
	TTL    time.Duration
	Jitter float64
	Format Format
}

// Value is an entry as a reader found it.
type Value struct {
	Payload []byte
	// Version is 24 hex digits, all zero for a value that a reader filled.
	Version string
	// WrittenAt is when it was stored, by the Redis server's clock, to the
	// millisecond.
	WrittenAt time.Time
}

const (
	versionDigits = 24
	schemaDigits  = 8
	writtenDigits = 13 // until the year 2286

	checksumDigits = 8
)

// fillVersion comes before the version of every written value.
var fillVersion = strings.Repeat("0", versionDigits)

// The header's parts and the offsets they lead to. Scripts rely on them.
const (
	headOpen     = `{"version":"`
	headWritten  = `","written_at":`
	headChecksum = `,"checksum":"`
	headSchema   = `","schema":"`
	headData     = `","data":`
	headEnd      = `"}`

	atVersion  = len(headOpen)
	atWritten  = atVersion + versionDigits + len(headWritten)
	atChecksum = atWritten + writtenDigits + len(headChecksum)
	atSchema   = atChecksum + 8 + len(headSchema)
	atTail     = atSchema + schemaDigits
	atData     = atTail + len(headData)
)

// encoded is an entry in the pieces that the scripts put together around the
// time of writing. The zero value stores nothing.
type encoded struct {
	format              Format
	ttlMillis           int64
	version, head, tail string
	payload             []byte
}

// none is an entry without a payload.
var none = encoded{ttlMillis: 1}

// encode checks an entry and cuts it into pieces. Without a payload there is
// nothing to check. The version argument replaces the entry's own.
func (e Entry) encode(version string) (encoded, error) {
	if len(e.Payload) == 0 {
		return none, nil
	}
	schema := strings.ToLower(e.Schema)
	switch {
	case !isHex(schema, schemaDigits):
		return encoded{}, fmt.Errorf("%w: schema %q is not %d hex digits", ErrEntry, e.Schema, schemaDigits)
	case e.TTL < time.Millisecond:
		return encoded{}, fmt.Errorf("%w: life %v is under a millisecond", ErrEntry, e.TTL)
	case !(e.Jitter >= 0 && e.Jitter <= 1):
		return encoded{}, fmt.Errorf("%w: jitter %v is not between 0 and 1", ErrEntry, e.Jitter)
	case int(e.Format) >= len(formatNames):
		return encoded{}, fmt.Errorf("%w: format %d is unknown", ErrEntry, e.Format)
	}
	end := headData
	if e.Format.endsHeader() {
		end = headEnd
	}
	sum := checksumOf(e.Payload)
	return encoded{
		format:    e.Format,
		ttlMillis: e.ttlMillis(),
		version:   version,
		head:      headOpen + version + headWritten,
		tail:      headChecksum + string(sum[:]) + headSchema + schema + end,
		payload:   e.Payload,
	}, nil
}

// ttlMillis draws the jitter.
func (e Entry) ttlMillis() int64 {
	life := time.Duration(float64(e.TTL) * (1 - e.Jitter*rand.Float64()))
	return max(life.Milliseconds(), 1)
}

// checksum is the first 8 hex digits of SHA-256 over the payload.
func checksum(payload []byte) string {
	digits := checksumOf(payload)
	return string(digits[:])
}

func checksumOf(payload []byte) (digits [checksumDigits]byte) {
	sum := sha256.Sum256(payload)
	hex.Encode(digits[:], sum[:checksumDigits/2])
	return digits
}

// normalVersion gives a version in lower case, so that scripts compare it
// digit by digit.
func normalVersion(version string) (string, error) {
	if !isHex(version, versionDigits) {
		return "", fmt.Errorf("%w: version %q is not %d hex digits", ErrEntry, version, versionDigits)
	}
	return strings.ToLower(version), nil
}

func isHex(s string, digits int) bool {
	if len(s) != digits {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20
		if !('0' <= s[i] && s[i] <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}

// verdict is what a reader makes of stored bytes.
type verdict int

const (
	valid verdict = iota
	otherSchema
	damaged
)

// decode reads the texts that Redis gave for a value of the format: in an
// envelope the value; in Plain the value and its header; in Hash the fields in
// the order of hashFields; in Versioned the pointer, the payload and the
// header. What has not the format's shape is a value of another schema.
func decode(format Format, texts []string, schema string) (Value, verdict) {
	h, payload, ok := split(format, texts)
	if !ok || !strings.EqualFold(h.schema, schema) {
		return Value{}, otherSchema
	}
	written, err := strconv.ParseUint(h.written, 10, 63)
	bytes := []byte(payload)
	if err != nil || len(h.written) != writtenDigits || !isHex(h.version, versionDigits) || h.checksum != checksum(bytes) {
		return Value{}, damaged
	}
	return Value{Payload: bytes, Version: h.version, WrittenAt: time.UnixMilli(int64(written))}, valid
}

// header is what is known of a payload, as the texts that are stored.
type header struct {
	version, written, checksum, schema string
}

// hashFields are the fields of an entry in Hash.
var hashFields = [...]string{"data", "version", "written_at", "checksum", "schema"}

// split takes the texts of decode apart.
func split(format Format, texts []string) (h header, payload string, ok bool) {
	switch {
	case format == Envelope && len(texts) == 1:
		raw := texts[0]
		if len(raw) < atData+2 || raw[len(raw)-1] != '}' || raw[atTail:atData] != headData {
			return header{}, "", false
		}
		h, ok = cut(raw)
		return h, raw[atData : len(raw)-1], ok
	case format == Plain && len(texts) == 2:
		h, ok = cutAlone(texts[1])
		return h, texts[0], ok
	case format == Hash && len(texts) == len(hashFields):
		h = header{texts[1], texts[2], texts[3], texts[4]}
		return h, texts[0], len(h.schema) == schemaDigits
	case format == Versioned && len(texts) == 3:
		h, ok = cutAlone(texts[2])
		// The header and what the pointer names are stored in one step. A header
		// of another version was not written for this payload.
		return h, texts[1], ok && isVersion(texts[0]) && strings.Contains(texts[0], versionMark+h.version)
	}
	return header{}, "", false
}

// cutAlone reads a header that stands by itself.
func cutAlone(text string) (header, bool) {
	if len(text) != atTail+len(headEnd) || text[atTail:] != headEnd {
		return header{}, false
	}
	return cut(text)
}

// cut reads a header at its fixed offsets. The text is at least that long.
func cut(text string) (h header, ok bool) {
	const version, written, check = atVersion + versionDigits, atWritten + writtenDigits, atChecksum + 8
	ok = text[:atVersion] == headOpen && text[version:atWritten] == headWritten &&
		text[written:atChecksum] == headChecksum && text[check:atSchema] == headSchema
	return header{text[atVersion:version], text[atWritten:written], text[atChecksum:check], text[atSchema:atTail]}, ok
}
