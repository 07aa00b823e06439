package cachesync

import (
	"slices"
	"strings"
)

const (
	controlSuffix = ":wt"
	metaSuffix    = controlSuffix + "m"
	pointerSuffix = ":current"
	versionMark   = ":v" // then a version; then, for a fill, '-' and its nonce
)

// siblings are the names that belong to one key, all in its slot.
type siblings struct {
	key, control, meta, pointer string
}

// version names the key that holds a written version's payload.
func (s siblings) version(version string) string {
	return strings.TrimSuffix(s.pointer, pointerSuffix) + versionMark + version
}

// fill names the key that holds a fill's payload. Every fill has version 0, and whoever
// follows the pointer may take a version key for something that never changes: two fills
// under one name would give a reader who keeps payloads by that name the older of them
// for ever, and one who stands between its two reads another entry than it was pointed
// to. The nonce of the lease, which no other fill has or will have, keeps them apart.
func (s siblings) fill(nonce string) string {
	return s.version(fillVersion) + "-" + nonce
}

// isVersion says whether a name is built like a version key's.
func isVersion(name string) bool {
	at := strings.LastIndex(name, versionMark)
	if at < 0 {
		return false
	}
	version, nonce, isFill := strings.Cut(name[at+len(versionMark):], "-")
	return isHex(version, versionDigits) && (!isFill || isNonce(nonce))
}

// isNonce knows what newToken makes.
func isNonce(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// siblingsOf names a key's siblings. It reports false for the few keys that
// cannot have any: those that hold a '}' without a hash tag (no name built
// around them hashes as they do), the empty key, and tagged keys that end like
// a sibling's or a version key's own name. Such keys are never cached, which is never stale.
func siblingsOf(key string) (siblings, bool) {
	switch tagged, ok := mayHaveSiblings(key); {
	case !ok:
		return siblings{}, false
	case tagged:
		return siblingsAround(key, "", key, ""), true
	}
	return siblingsAround(key, "{", key, "}"), true
}

// mayHaveSiblings also says whether the key has a hash tag of its own.
func mayHaveSiblings(key string) (tagged, ok bool) {
	if isTagged(key) {
		_, isSibling := cutSuffix(key)
		return true, !isSibling && !isVersion(key)
	}
	return false, key != "" && !strings.Contains(key, "}")
}

// siblingsAround makes one text of all names: each write names them, and an allocation costs as much as a short name.
func siblingsAround(key, open, tag, shut string) siblings {
	all := open + tag + shut + metaSuffix + open + tag + shut + pointerSuffix
	meta := len(open) + len(tag) + len(shut) + len(metaSuffix)
	return siblings{key, all[:meta-1], all[:meta], all[meta:]}
}

// cutSuffix gives what a sibling's name is built around.
func cutSuffix(name string) (tag string, isSibling bool) {
	for _, suffix := range []string{controlSuffix, metaSuffix, pointerSuffix} {
		if tag, ok := strings.CutSuffix(name, suffix); ok {
			return tag, true
		}
	}
	return "", false
}

// isTagged follows Redis' rule: the text between the first '{' and the next
// '}' is what is hashed, unless it is empty.
func isTagged(key string) bool {
	open := strings.IndexByte(key, '{')
	return open >= 0 && strings.IndexByte(key[open+1:], '}') > 0
}

// owners gives the keys that a name found in Redis may belong to: itself, and
// those whose sibling it is. Version keys belong to nobody: without a pointer
// they are out of use, and whoever still reads one may find it until it expires.
func owners(name string) []string { return append([]string{name}, siblingOf(name)...) }

// siblingOf gives the keys whose sibling a name may be.
func siblingOf(name string) []string {
	base, ok := cutSuffix(name)
	switch {
	case !ok:
		return nil
	case len(base) > 2 && base[0] == '{' && base[len(base)-1] == '}':
		return []string{base, base[1 : len(base)-1]}
	}
	return []string{base}
}

// isHeader says whether a name is that of a key's header.
func isHeader(name string) bool { return strings.HasSuffix(name, metaSuffix) }

// MatchesAny says whether a key matches one of the patterns of Redis' SCAN.
func MatchesAny(globs []string, key string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool { return matchGlob(glob, key) })
}

// matchGlob says whether s matches a pattern of Redis' SCAN: '*', '?',
// '[a-z]', '[^a]' and '\' before a literal.
func matchGlob(pattern, s string) bool {
	for len(pattern) > 0 {
		switch pattern[0] {
		case '*':
			for len(pattern) > 1 && pattern[1] == '*' {
				pattern = pattern[1:]
			}
			if len(pattern) == 1 {
				return true
			}
			for i := 0; i <= len(s); i++ {
				if matchGlob(pattern[1:], s[i:]) {
					return true
				}
			}
			return false
		case '[':
			if s == "" {
				return false
			}
			rest, ok := matchClass(pattern[1:], s[0])
			if !ok {
				return false
			}
			pattern, s = rest, s[1:]
			continue
		case '\\':
			if len(pattern) > 1 {
				pattern = pattern[1:]
			}
			if s == "" || s[0] != pattern[0] {
				return false
			}
		case '?':
			if s == "" {
				return false
			}
		default:
			if s == "" || s[0] != pattern[0] {
				return false
			}
		}
		pattern, s = pattern[1:], s[1:]
	}
	return s == ""
}

// matchClass matches one byte against the class that follows a '[', and gives
// the pattern after it. A class that is not closed ends with the pattern.
func matchClass(class string, c byte) (rest string, ok bool) {
	negated := class != "" && class[0] == '^'
	if negated {
		class = class[1:]
	}
	for class != "" && class[0] != ']' {
		low := class[0]
		switch {
		case low == '\\' && len(class) > 1:
			low, class = class[1], class[2:]
			ok = ok || low == c
		case len(class) > 2 && class[1] == '-':
			high := class[2]
			if low > high {
				low, high = high, low
			}
			class = class[3:]
			ok = ok || low <= c && c <= high
		default:
			class = class[1:]
			ok = ok || low == c
		}
	}
	if class != "" {
		class = class[1:]
	}
	return class, ok != negated
}
