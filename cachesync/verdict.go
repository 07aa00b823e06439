package cachesync

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says how bad a Finding is.
type Severity int

// The severities, in rising order.
const (
	Info    Severity = iota // worth knowing; nothing to mend
	Warning                 // a rare fault costs more than it has to, or there is a way to write that is not seen
	Error                   // it does not work, or what was promised is not to be had
)

var severityNames = [...]string{"info", "warning", "error"}

// String gives the word: "info", "warning" or "error".
func (s Severity) String() string {
	if s < Info || s > Error {
		return fmt.Sprintf("Severity(%d)", int(s))
	}
	return severityNames[s]
}

// MarshalText gives the word, for JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word.
func (s *Severity) UnmarshalText(text []byte) error {
	n := slices.Index(severityNames[:], string(text))
	if n < 0 {
		return fmt.Errorf("severity %q is none of info, warning, error", text)
	}
	*s = Severity(n)
	return nil
}

// Finding is one thing that Judge, or a check of rules and database, has to say.
type Finding struct {
	Severity Severity `json:"severity"`
	// Subject is what it is about: "eviction", "persistence", "replicas", "version", "scripts", "rights", …
	Subject string `json:"subject"`
	// Object names what of the database or of Redis it is about, where that is one thing: "trigger
	// public.visits.touch", "function public.sweep(integer)".
	Object string `json:"object,omitempty"`
	// Where is the server or servers, or the place in a rule file.
	Where   string `json:"where"`
	Problem string `json:"problem"`
	// Loss is what a user could lose by it.
	Loss string `json:"loss,omitempty"`
	Fix  string `json:"fix,omitempty"`
	// Refused says that a program with strict rules does not start over it.
	Refused bool `json:"refused,omitempty"`
}

// String gives "severity: subject: problem; loss; fix".
func (f Finding) String() string {
	text := fmt.Sprintf("%s: %s: %s", f.Severity, f.Subject, f.Problem)
	for _, more := range []string{f.Loss, f.Fix} {
		if more != "" {
			text += "; " + more
		}
	}
	return text
}

// Judge says what the condition means for the rules, the worst first. What was not found out is
// judged only where not knowing it is dangerous.
func (c *Condition) Judge(needs Needs) []Finding {
	var all []Finding
	for _, s := range c.Servers {
		j := judgement{Server: s, needs: needs, topology: c.Topology}
		j.role()
		j.version()
		j.scripts()
		j.rights()
		j.eviction()
		j.memory()
		j.persistence()
		j.replicas()
		all = merge(all, j.found)
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(b.Severity, a.Severity) })
	return all
}

// merge says once what is true of several servers.
func merge(all, more []Finding) []Finding {
	for _, f := range more {
		where := f.Where
		f.Where = ""
		n := slices.IndexFunc(all, func(old Finding) bool { old.Where = ""; return old == f })
		if n >= 0 {
			all[n].Where += ", " + where
			continue
		}
		f.Where = where
		all = append(all, f)
	}
	return all
}

// judgement is one server under judgement.
type judgement struct {
	Server
	needs    Needs
	topology Topology
	found    []Finding
}

func (j *judgement) say(severity Severity, subject, problem, loss, fix string) *Finding {
	j.found = append(j.found, Finding{Severity: severity, Subject: subject, Where: j.Name, Problem: problem, Loss: loss, Fix: fix})
	return &j.found[len(j.found)-1]
}

func (j *judgement) role() {
	if j.InfoError != "" {
		j.say(Warning, "identity", "INFO is refused ("+j.InfoError+"), so that nobody notices when Redis restarts or fails over",
			"entries that an old snapshot or a lagging replica brings back are served until they are written anew or expire", "allow INFO to wtcache's user")
	}
	switch j.Role {
	case "slave":
		j.say(Error, "role", "the server is a replica and refuses writes",
			"nothing can be fenced: every write follows its rule's redis_down, and readers can be given what is already replaced",
			"name the master, or the Sentinels or the Cluster that know it")
	case "active-replica":
		j.say(Error, "role", "the server is an active replica, to which other servers' writes come late and in any order",
			"a fence on one of them does not bar readers of another: old rows are served",
			"use one master, Sentinel or Cluster")
	}
}

// Versions of Redis before which something is missing.
var (
	promisedVersion = [2]int{6, 2} // the oldest that the scripts are written for
	neededVersion   = [2]int{5, 0} // before, a script that has asked for the time could not write
)

func (j *judgement) version() {
	switch j.Software {
	case "Redis", "Valkey":
	case "KeyDB":
		j.say(Info, "version", "the server is KeyDB "+j.Version+", with which wtcache is not tested", "", "")
	case "Dragonfly":
		j.say(Warning, "version", "the server is Dragonfly "+j.Version+", with which wtcache is not tested",
			"its scripts have rules of their own, and its replicas and snapshots other guarantees", "use Redis or Valkey, or test it well")
		return // its number is its own
	default:
		return
	}
	var v [2]int
	if n, _ := fmt.Sscanf(j.Version, "%d.%d", &v[0], &v[1]); n != 2 {
		return
	}
	switch {
	case slices.Compare(v[:], neededVersion[:]) < 0:
		j.say(Error, "version", j.Software+" "+j.Version+" is too old: its scripts may not write once they have read the clock",
			"nothing is cached, and every write follows its rule's redis_down", "use Redis 6.2 or later")
	case slices.Compare(v[:], promisedVersion[:]) < 0:
		j.say(Warning, "version", j.Software+" "+j.Version+" is older than 6.2, the oldest that wtcache's scripts are written for",
			"it may work and is not tested", "use Redis 6.2 or later")
	}
}

func (j *judgement) scripts() {
	if j.Lua.Error != "" {
		j.say(Error, "scripts", "Lua scripts are refused: "+j.Lua.Error,
			"nothing can be fenced or cached: every write follows its rule's redis_down, every read goes to the database",
			"allow EVAL and EVALSHA to wtcache's user, or use a Redis that has scripts")
	}
	if j.Lua.Undeclared != "" {
		j.say(Error, "scripts", "scripts may not read a key that was not declared: "+j.Lua.Undeclared,
			"every read of an entry in format versioned goes to the database",
			"use another format, or let the server allow undeclared keys")
	}
}

func (j *judgement) rights() {
	for _, d := range j.Denied {
		who := "the user may not run " + strings.ToUpper(strings.Join(d.Commands, ", "))
		fix := "ACL SETUSER … +" + strings.Join(d.Commands, " +")
		if d.Keys != "" {
			who += " on keys like " + d.Keys
		}
		if d.All {
			who = "the user has no access to keys like " + d.Keys
			fix = "ACL SETUSER … ~" + d.Keys
		}
		loss := "what needs it fails: writes follow their rule's redis_down, reads go to the database"
		if slices.Contains(d.Commands, "scan") && d.Keys == "" {
			loss = "coarse writes (TRUNCATE, COPY, what cannot be captured) cannot walk the keys: they follow their rule's redis_down"
		}
		j.say(Error, "rights", who, loss, fix)
	}
	if j.RightsUnknown != "" {
		j.say(Info, "rights", "the user's rights could not be asked for: "+j.RightsUnknown, "", "")
	}
}

// Texts about eviction, the one fault that every strict rule is open to.
const (
	fenceLoss = "a fence that is evicted while its transaction commits lets a reader serve or keep the row that was just replaced; if the writer dies then, until the entry's TTL"
	policyFix = "set maxmemory-policy noeviction, or maxmemory 0"
	acceptFix = policyFix + "; wtcache_eviction=accept (WTCACHE_EVICTION) takes the risk"
)

// eviction judges what becomes of control keys when memory is full. They have short lives (a fence 30 s, a lease 3 s) and
// are as small as anything in Redis, so a policy that goes by expiry takes them first of all.
func (j *judgement) eviction() {
	bounded := j.MaxMemoryBytes != 0
	policy := j.Policy
	switch {
	case j.Software == inMemory:
	case policy == "noeviction" || !bounded && policy != "cache_mode":
		j.harmless(policy)
	case policy == "" && j.needs.Strict:
		j.say(Warning, "eviction", "the server does not say what it evicts when its memory is full"+j.because(),
			fenceLoss, "make sure in your provider's console that maxmemory-policy is noeviction")
	case policy == "":
	case !j.needs.Strict:
		j.say(Info, "eviction", j.policyText()+": entries go when memory is full", "with consistency: eventual that costs misses and nothing else", "")
	case policy == "volatile-ttl":
		j.refuse(j.policyText() + " takes the keys with the shortest lives first: fences and leases, which live for seconds, before entries, which live for minutes")
	case strings.HasPrefix(policy, "allkeys-") || policy == "cache_mode":
		j.refuse(j.policyText() + " takes any key: a fence just as an entry, and wtcache's record of Redis' restarts, without which all entries are cold")
	case strings.HasPrefix(policy, "volatile-"):
		j.say(Warning, "eviction", j.policyText()+j.chance(), fenceLoss, policyFix)
	default:
		j.refuse("maxmemory-policy " + policy + " is not known to wtcache")
	}
}

// harmless is for what cannot take a fence.
func (j *judgement) harmless(policy string) {
	switch {
	case j.MaxMemoryBytes == 0 && policy != "" && policy != "noeviction" && j.needs.Strict:
		j.say(Info, "eviction", "maxmemory-policy "+policy+" does nothing while maxmemory is 0", "if a bound is set one day, fences can be evicted", "set maxmemory-policy noeviction as well")
	case j.MaxMemoryBytes > 0:
		j.say(Info, "eviction", "noeviction keeps fences; when memory is full Redis refuses writes, fences among them", j.whenFull(), "")
	}
}

// whenFull says what a refused fence does.
func (j *judgement) whenFull() string {
	switch {
	case j.needs.Queue && j.needs.Refuse:
		return "rules with redis_down: queue then commit and owe their keys, those with refuse roll back; reads go to the database"
	case j.needs.Refuse:
		return "writes of ruled tables are then rolled back (redis_down: refuse); reads go to the database"
	}
	return "writes of ruled tables then commit and owe their keys (redis_down: queue); reads go to the database"
}

func (j *judgement) refuse(problem string) {
	if j.needs.AcceptEviction {
		j.say(Warning, "eviction", problem+" (accepted by wtcache_eviction=accept)", fenceLoss, policyFix)
		return
	}
	j.say(Error, "eviction", problem, fenceLoss, acceptFix).Refused = true
}

func (j *judgement) policyText() string {
	text := "maxmemory-policy " + j.Policy
	if j.Policy == "cache_mode" {
		text = "Dragonfly's cache_mode"
	}
	if j.EvictedKeys > 0 {
		text += fmt.Sprintf(" (%d keys evicted so far)", j.EvictedKeys)
	}
	return text
}

// chance says how likely a fence is taken, whose life is a few milliseconds as a rule.
func (j *judgement) chance() string {
	switch j.Policy {
	case "volatile-lfu":
		return " takes keys that are seldom used, as every fence is, whenever memory is full in the milliseconds of a COMMIT"
	case "volatile-random":
		return " takes any key with an expiry, a fence as likely as an entry, whenever memory is full in the milliseconds of a COMMIT"
	}
	return " seldom takes what was just used, as a fence was, but can, when memory is full in the milliseconds of a COMMIT"
}

func (j *judgement) because() string {
	if j.InfoError != "" {
		return " (" + j.InfoError + ")"
	}
	return ""
}

// almostFull is the part of maxmemory from which on it is worth a word.
const almostFull = 0.9

func (j *judgement) memory() {
	if j.MaxMemoryBytes <= 0 || j.UsedBytes == Unknown || float64(j.UsedBytes) < almostFull*float64(j.MaxMemoryBytes) {
		return
	}
	loss := "entries are evicted as fast as they are stored"
	if j.Policy == "noeviction" {
		loss = j.whenFull()
	}
	j.say(Warning, "memory", "memory is 90 % full or more", loss, "raise maxmemory, or shorten the rules' ttl")
}

// afterRestart is what a restart costs: an entry from before it may be older than the row, so readers of wtcache trust
// none of them.
func (j *judgement) afterRestart() string {
	return "after a restart wtcache's readers take no entry from before it and " + j.fillsNothing() +
		"; other programs that read Redis are given the old ones until they are written anew or expire"
}

func (j *judgement) fillsNothing() string {
	return fmt.Sprintf("fill nothing for the life of a fence (%v)", cmp.Or(j.needs.FenceLife, DefaultFenceLife))
}

func (j *judgement) persistence() {
	switch {
	case j.AOF == "" || j.AOF == "always":
	case j.AOF != "off":
		j.say(Info, "persistence", "the append-only file ("+j.AOF+") can lack the last second's writes after a crash", j.afterRestart(), "")
	case j.Snapshots == "off":
		j.say(Info, "persistence", "nothing is kept over a restart", "after one every entry is read from the database again, and readers "+j.fillsNothing(), "")
	case j.Snapshots == "":
		j.say(Info, "persistence", "there is no append-only file, and the server does not say whether it takes snapshots; a restart may bring an old state back", j.afterRestart(), "")
	default:
		j.say(Info, "persistence", "snapshots ("+j.Snapshots+") bring an old state back after a restart", j.afterRestart(), `a Redis that is a cache alone needs none: save ""`)
	}
}

func (j *judgement) replicas() {
	switch {
	case j.Replicas == Unknown || j.Role != "master":
	case j.Replicas < int64(j.needs.WaitReplicas):
		j.say(Error, "replicas", fmt.Sprintf("a rule waits for %d replicas and %d follow this master", j.needs.WaitReplicas, j.Replicas),
			"every write of such a rule counts as one while Redis is down", "add replicas, or lower wait_replicas")
	case j.Replicas == 0 && j.topology == Sentinel:
		j.say(Info, "replicas", "no replica follows the master, so Sentinel has none to promote", "while the master is down every write follows its rule's redis_down", "")
	case j.Replicas == 0 && j.topology == Cluster:
		j.say(Info, "replicas", "no replica follows this master", "while it is down, writes of its slots' keys follow their rule's redis_down", "")
	case j.Replicas > 0 && j.needs.WaitReplicas == 0:
		j.say(Info, "replicas", fmt.Sprintf("%d replicas follow; one that is promoted can lack the last writes", j.Replicas),
			"after a failover wtcache's readers take no entry from before it and "+j.fillsNothing()+"; other programs that read Redis can be given rows that were already replaced",
			"wait_replicas: 1 in a rule makes each fence wait for a replica, which keeps other programs from such rows")
	}
}
