package cachesync

import (
	"slices"
	"strings"
	"testing"
)

// storedTexts is what a reader is given of an entry, without a server.
func storedTexts(format Format, payload, v string) []string {
	e, err := entry(format, payload, 0).encode(v)
	if err != nil {
		panic(err)
	}
	const written = "1700000000000"
	header := e.head + written + e.tail
	switch format {
	case Plain:
		return []string{payload, header}
	case Hash:
		return []string{payload, v, written, checksum([]byte(payload)), testSchema}
	case Versioned:
		return []string{"{k}:v" + v, payload, header}
	}
	return []string{header + payload + "}"}
}

// FuzzDecode gives a reader any bytes: it must not panic, and what it takes for
// an entry must be one.
func FuzzDecode(f *testing.F) {
	for _, format := range allFormats {
		texts := append(storedTexts(format, `{"n":1}`, version(5)), "", "", "", "")
		f.Add(uint8(format), uint8(5), texts[0], texts[1], texts[2], texts[3], texts[4])
	}
	f.Add(uint8(Envelope), uint8(1), `{"version":"`, "", "", "", "")
	f.Fuzz(func(t *testing.T, format, n uint8, a, b, c, d, e string) {
		texts := []string{a, b, c, d, e}[:n%6]
		value, found := decode(Format(format%5), texts, testSchema)
		if found != valid {
			return
		}
		all := strings.ToLower(strings.Join(texts, "\x00"))
		if !isHex(value.Version, versionDigits) || !strings.Contains(all, checksum(value.Payload)) || !strings.Contains(all, testSchema) {
			t.Fatalf("%q is taken for %+v", texts, value)
		}
	})
}

// FuzzDamaged changes one byte of an entry: it must be absent then, or be read
// as it was. (A byte of the version or the time may become another digit.)
func FuzzDamaged(f *testing.F) {
	f.Add(`{"n":1}`, uint8(0), uint16(0), uint8(1))
	f.Add("1", uint8(2), uint16(99), uint8(32))
	f.Fuzz(func(t *testing.T, payload string, part uint8, at uint16, flip uint8) {
		if payload == "" || flip == 0 {
			return
		}
		for _, format := range allFormats {
			texts := storedTexts(format, payload, version(5))
			text := []byte(texts[int(part)%len(texts)])
			text[int(at)%len(text)] ^= flip
			texts[int(part)%len(texts)] = string(text)
			if value, found := decode(format, texts, testSchema); found == valid && string(value.Payload) != payload {
				t.Fatalf("%s: %q is read as %q", format, texts, value.Payload)
			}
		}
	})
}

// Every way to cut an entry short is a miss.
func TestEntriesCutShort(t *testing.T) {
	for _, format := range allFormats {
		whole := storedTexts(format, `{"n":1}`, version(5))
		if _, found := decode(format, whole, testSchema); found != valid {
			t.Fatalf("%s: the whole is %v", format, found)
		}
		for i, text := range whole {
			for n := range len(text) {
				cut := slices.Clone(whole)
				cut[i] = text[:n]
				if v, found := decode(format, cut, testSchema); found == valid {
					t.Errorf("%s: %q is read as %+v", format, cut, v)
				}
			}
			if v, found := decode(format, whole[:i], testSchema); found == valid {
				t.Errorf("%s: %q is read as %+v", format, whole[:i], v)
			}
		}
	}
}
