package cachesync

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// unitID names a unit that was met before. The first is the empty one.
type unitID uint16

// physical is one name in Redis. Its life is in ticks, its times are spelled "@ticks", 0 for all that has passed.
type physical struct {
	name, kind string
	ticks      int
	parts      []string
}

// unit is a state of one key's names in Redis, and what the model has to know of it.
type unit struct {
	names    []physical
	spelling string // of the names and all that they hold
	control  int    // the place of the control key in names, -1 if it is not there
	fence    bool
	tokens   [maxProcs * maxTries]uint8 // the ticks that each token has left
	nonce    int                        // 1 + the place of the nonce that holds the lease, 0 without a lease

	content    int // what a reader gets: -1 nothing; see contents
	contentSet bool

	ticked    unitID // what is left of it a tick later
	tickedSet bool
}

// stored says whether there is anything but control state.
func (u *unit) stored() bool { return len(u.names) > 1 || len(u.names) == 1 && u.control < 0 }

var (
	instants = regexp.MustCompile(`(^|[^0-9a-fA-F@])([0-9]{13})($|[^0-9a-fA-F])`)
	ticks    = regexp.MustCompile(`@([0-9]+)@`)
)

// enticked spells the times in a text in ticks from now.
func enticked(s string) string {
	return instants.ReplaceAllStringFunc(s, func(found string) string {
		at := strings.IndexAny(found, "0123456789")
		ms, _ := strconv.ParseInt(found[at:at+13], 10, 64)
		n := max(int(time.Until(time.UnixMilli(ms)).Round(tickLength)/tickLength), 0)
		return fmt.Sprintf("%s@%d@%s", found[:at], n, found[at+13:])
	})
}

// untick is its inverse; what has passed has passed a tick ago.
func untick(s string) string {
	return ticks.ReplaceAllStringFunc(s, func(found string) string {
		n, _ := strconv.Atoi(strings.Trim(found, "@"))
		if n == 0 {
			n = -1
		}
		return strconv.FormatInt(time.Now().Add(time.Duration(n)*tickLength).UnixMilli(), 10)
	})
}

func (m *machine) parse(dump any) []physical {
	var names []physical
	for _, item := range dump.([]any) {
		fields := item.([]any)
		p := physical{name: fields[0].(string), kind: fields[1].(string)}
		ms := fields[2].(int64)
		if ms < 0 {
			m.t.Fatalf("%s would live for ever", p.name)
		}
		p.ticks = int((time.Duration(ms) * time.Millisecond).Round(tickLength) / tickLength)
		for _, part := range fields[3].([]any) {
			p.parts = append(p.parts, enticked(part.(string)))
		}
		names = append(names, p)
	}
	return names
}

// referred leaves out the version keys that the pointer does not name. No script and no reader looks at them: all come
// by the pointer, and what stores under a version key replaces what it held. So they make no difference to any step, and
// a state that kept them would be another one after each write. They are immutable and end by themselves.
func (m *machine) referred(names []physical) []physical {
	current := ""
	for _, p := range names {
		if p.name == m.names.pointer {
			current = p.parts[0]
		}
	}
	return slices.DeleteFunc(slices.Clone(names), func(p physical) bool { return isVersion(p.name) && p.name != current })
}

// intern gives a state its number, and puts it into one order first.
func (m *machine) intern(names []physical) unitID {
	names = m.referred(names)
	slices.SortFunc(names, func(a, b physical) int { return strings.Compare(a.name, b.name) })
	for _, p := range names {
		if p.kind == "hash" {
			sortFields(p.parts)
		}
	}
	var b strings.Builder
	for _, p := range names {
		fmt.Fprintf(&b, "%q %s %d %q\n", p.name, p.kind, p.ticks, p.parts)
	}
	spelled := b.String()
	id, ok := m.ids[spelled]
	if !ok {
		if len(m.units) > math.MaxUint16 {
			m.t.Fatal("more states of a key than a unitID can name")
		}
		id = unitID(len(m.units))
		m.ids[spelled] = id
		u := m.examine(names)
		u.spelling = spelled
		m.units = append(m.units, u)
	}
	return id
}

func sortFields(parts []string) {
	fields := make([][2]string, 0, len(parts)/2)
	for i := 0; i < len(parts); i += 2 {
		fields = append(fields, [2]string{parts[i], parts[i+1]})
	}
	slices.SortFunc(fields, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	for i, f := range fields {
		parts[2*i], parts[2*i+1] = f[0], f[1]
	}
}

func (m *machine) examine(names []physical) unit {
	u := unit{names: names, control: slices.IndexFunc(names, func(p physical) bool { return p.name == m.names.control })}
	if u.control < 0 {
		return u
	}
	c := names[u.control]
	if c.kind == "string" {
		nonce := c.parts[0]
		if token, ok := strings.CutPrefix(nonce, "f:"); ok {
			u.fence = true
			u.tokens[named(token)] = uint8(c.ticks)
			return u
		}
		u.nonce = 1 + int(nonce[1]-'A')*maxTries + int(nonce[2]-'A')
		return u
	}
	u.fence = true
	for i := 0; i < len(c.parts); i += 2 {
		if name, ok := strings.CutPrefix(c.parts[i], "t:"); ok {
			n, _ := strconv.Atoi(strings.Trim(c.parts[i+1], "@"))
			u.tokens[named(name)] = uint8(n)
		}
	}
	return u
}

// named is the place of a token among all.
func named(name string) int {
	var who, try int
	if _, err := fmt.Sscanf(name[1:], "%d.%d", &who, &try); err != nil {
		panic(name)
	}
	return who*maxTries + try
}

// tick lets an hour pass, as Redis would: names whose life has ended are gone, tokens past theirs are still in the hash.
func (m *machine) tick(id unitID) unitID {
	if u := &m.units[id]; u.tickedSet {
		return u.ticked
	}
	var names []physical
	for _, p := range m.units[id].names {
		if p.ticks < longTicks {
			p.ticks--
		}
		if p.ticks == 0 {
			continue
		}
		p.parts = slices.Clone(p.parts)
		for i, s := range p.parts {
			p.parts[i] = ticks.ReplaceAllStringFunc(s, func(found string) string {
				n, _ := strconv.Atoi(strings.Trim(found, "@"))
				return fmt.Sprintf("@%d@", max(n-1, 0))
			})
		}
		names = append(names, p)
	}
	after := m.intern(names)
	m.units[id].ticked, m.units[id].tickedSet = after, true // intern may have moved the units
	return after
}

// without is a unit that has lost one of its names.
func (m *machine) without(id unitID, place int) unitID {
	names := slices.Clone(m.units[id].names)
	return m.intern(slices.Delete(names, place, place+1))
}

// role says what a name of the unit is for.
func (m *machine) role(name string) string {
	switch name {
	case m.names.key:
		return "value"
	case m.names.control:
		return "control key"
	case m.names.meta:
		return "meta sibling"
	case m.names.pointer:
		return "pointer"
	}
	return "version key"
}

// show spells a unit for a trace.
func (m *machine) show(id unitID) string {
	u := &m.units[id]
	var parts []string
	if c := m.contents(id); c >= 0 {
		parts = append(parts, "value "+contentName(c))
	}
	if u.control >= 0 {
		c := u.names[u.control]
		if token, ok := strings.CutPrefix(c.parts[0], "f:"); ok {
			parts = append(parts, fmt.Sprintf("fence {%s %d left}", token, c.ticks))
		} else if u.fence {
			parts = append(parts, "fence "+showFence(c.parts))
		} else {
			parts = append(parts, fmt.Sprintf("lease %s, %d left", shownNonce(c.parts[0]), c.ticks))
		}
	}
	if len(parts) == 0 {
		return "absent"
	}
	return strings.Join(parts, " + ")
}

func showFence(fields []string) string {
	var parts []string
	for i := 0; i < len(fields); i += 2 {
		switch name, ok := strings.CutPrefix(fields[i], "t:"); {
		case ok:
			parts = append(parts, name+" "+strings.Trim(fields[i+1], "@")+" left")
		case name == "floor":
			parts = append(parts, "floor "+strings.TrimLeft(fields[i+1][9:], "0"))
		default:
			parts = append(parts, name)
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
