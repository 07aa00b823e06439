package cachesync

import "strings"

const (
	controlSuffix = ":wt"
	metaSuffix    = ":wtm"
)

// siblings are the names that belong to one key, all in its slot.
type siblings struct {
	key, control, meta string
}

// siblingsOf names a key's siblings. It reports false for the few keys that
// cannot have any: those that hold a '}' without a hash tag (no name built
// around them hashes as they do), the empty key, and tagged keys that end like
// a sibling's own name. Such keys are never cached, which is never stale.
func siblingsOf(key string) (siblings, bool) {
	if isTagged(key) {
		if strings.HasSuffix(key, controlSuffix) || strings.HasSuffix(key, metaSuffix) {
			return siblings{}, false
		}
		return siblings{key, key + controlSuffix, key + metaSuffix}, true
	}
	if key == "" || strings.Contains(key, "}") {
		return siblings{}, false
	}
	tag := "{" + key + "}"
	return siblings{key, tag + controlSuffix, tag + metaSuffix}, true
}

// isTagged follows Redis' rule: the text between the first '{' and the next
// '}' is what is hashed, unless it is empty.
func isTagged(key string) bool {
	open := strings.IndexByte(key, '{')
	return open >= 0 && strings.IndexByte(key[open+1:], '}') > 0
}

// owners gives the keys that a name found in Redis may belong to: itself, and
// those whose sibling it is.
func owners(name string) []string {
	found := []string{name}
	base, ok := strings.CutSuffix(name, controlSuffix)
	if !ok {
		if base, ok = strings.CutSuffix(name, metaSuffix); !ok {
			return found
		}
	}
	found = append(found, base)
	if len(base) > 2 && base[0] == '{' && base[len(base)-1] == '}' {
		found = append(found, base[1:len(base)-1])
	}
	return found
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
