package cachesync

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

var strictNeeds = Needs{Strict: true, Queue: true, Versioned: true, Globs: []string{"user:*", `o\[r\]g:*:members`}, Keys: []string{"wtcache:barrier:public.users"}}

func inspect(t *testing.T, rdb redis.UniversalClient, needs Needs) *Condition {
	t.Helper()
	cond, err := Inspect(t.Context(), rdb, needs)
	if err != nil {
		t.Fatal(err)
	}
	return cond
}

// judged gives the findings about one subject, as lines.
func judged(cond *Condition, needs Needs, subject string) string {
	var lines []string
	for _, f := range cond.Judge(needs) {
		if f.Subject == subject {
			lines = append(lines, f.String())
		}
	}
	return strings.Join(lines, "\n")
}

// Whoever runs Redis under a policy that takes fences first must not be told that all is well, and whoever runs it
// under a good one must not be kept from starting.
func TestInspectPolicies(t *testing.T) {
	for policy, want := range map[string]struct {
		severity Severity
		refused  bool
		word     string
	}{
		"noeviction":      {Info, false, "refuses writes"},
		"volatile-lru":    {Warning, false, "seldom"},
		"volatile-lfu":    {Warning, false, "seldom used"},
		"volatile-random": {Warning, false, "as likely"},
		"volatile-ttl":    {Error, true, "shortest"},
		"allkeys-lru":     {Error, true, "any key"},
		"allkeys-lfu":     {Error, true, "any key"},
		"allkeys-random":  {Error, true, "any key"},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := testenv.NewRedis(t, "--maxmemory", "64mb", "--maxmemory-policy", policy)
			rdb := dial(t, s.URL)
			cond := inspect(t, rdb, strictNeeds)
			var got []Finding
			for _, f := range cond.Judge(strictNeeds) {
				if f.Subject == "eviction" {
					got = append(got, f)
				}
			}
			if len(got) != 1 || got[0].Severity != want.severity || got[0].Refused != want.refused || !strings.Contains(got[0].Problem, want.word) {
				t.Errorf("judged as %+v, want %+v", got, want)
			}
			accepting, eventual := strictNeeds, strictNeeds
			accepting.AcceptEviction, eventual.Strict = true, false
			if want.refused {
				if text := judged(cond, accepting, "eviction"); !strings.HasPrefix(text, "warning: ") || !strings.Contains(text, "wtcache_eviction=accept") {
					t.Errorf("accepted, it is judged as %q", text)
				}
			}
			if text := judged(cond, eventual, "eviction"); !strings.HasPrefix(text, "info: ") {
				t.Errorf("with eventual rules alone it is judged as %q", text)
			}
			// Without a bound nothing is evicted.
			if err := rdb.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
				t.Fatal(err)
			}
			if text := judged(inspect(t, rdb, strictNeeds), strictNeeds, "eviction"); strings.Contains(text, "error") || strings.Contains(text, "warning") {
				t.Errorf("with maxmemory 0 it is judged as %q", text)
			}
		})
	}
}

// A provider that has taken CONFIG away must be judged all the same, by what INFO says.
func TestInspectWithoutConfig(t *testing.T) {
	s := testenv.NewRedis(t, "--rename-command", "CONFIG", "", "--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl")
	cond := inspect(t, dial(t, s.URL), strictNeeds)
	if text := judged(cond, strictNeeds, "eviction"); !strings.Contains(text, "shortest") {
		t.Errorf("judged as %q", text)
	}
	if text := judged(cond, strictNeeds, "rights"); text != "" {
		t.Errorf("CONFIG is not needed: %s", text)
	}
	if text := judged(cond, strictNeeds, "persistence"); !strings.Contains(text, "does not say whether it takes snapshots") {
		t.Errorf("judged as %q", text)
	}
}

// Where INFO is gone too, a user must learn that nobody has looked; where CONFIG is there, it says what INFO did not.
func TestInspectWithoutInfo(t *testing.T) {
	policy := []string{"--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--rename-command", "INFO", ""}
	cond := inspect(t, dial(t, testenv.NewRedis(t, policy...).URL), strictNeeds)
	if text := judged(cond, strictNeeds, "eviction"); !strings.Contains(text, "any key") {
		t.Errorf("with CONFIG it is judged as %q", text)
	}
	cond = inspect(t, dial(t, testenv.NewRedis(t, append(policy, "--rename-command", "CONFIG", "")...).URL), strictNeeds)
	if text := judged(cond, strictNeeds, "eviction"); !strings.HasPrefix(text, "warning: ") || !strings.Contains(text, "does not say what it evicts when its memory is full (ERR unknown command") {
		t.Errorf("without both it is judged as %q", text)
	}
	if text := judged(cond, strictNeeds, "identity"); !strings.Contains(text, "nobody notices when Redis restarts") {
		t.Errorf("without INFO it is judged as %q", text)
	}
}

const fullRights = "+eval +evalsha +info +scan +time +@read +@write"

// A missing right must be named, with the ACL rule that mends it; which names an entry needs beside its key is what
// nobody guesses.
func TestInspectRights(t *testing.T) {
	server := testenv.NewRedis(t)
	server.Unvouched() // so that it is empty
	admin := dial(t, server.URL)
	url := "unix://USER:pass@" + admin.Options().Addr
	for _, c := range []struct {
		name, rules string
		want        []string // a part of each finding
	}{
		{"all it needs", "~user:* ~{user:* ~o\\[r\\]g:* ~{o\\[r\\]g:* ~{wtcache:* ~wtcache:* " + fullRights, nil},
		{"no eval", "~* +@all -eval", []string{"Lua scripts are refused"}},
		{"no evalsha", "~* +@all -evalsha", []string{"may not run EVALSHA;"}},
		{"no scan", "~* +@all -scan", []string{"may not run SCAN; coarse writes"}},
		{"no hash commands", "~* +@all -hset -hdel", []string{"may not run HDEL, HSET on keys like user:*;"}},
		{"keys alone", "~user:* ~o\\[r\\]g:* ~{wtcache:* ~wtcache:* " + fullRights, []string{
			"no access to keys like {user:*}:wt;", "ACL SETUSER … ~{user:*}:wt", "no access to keys like {user:*}:wtm;", "no access to keys like {user:*}:current;", "no access to keys like {user:*}:v*;"}},
		{"no barrier", "~user:* ~{user:* ~o\\[r\\]g:* ~{o\\[r\\]g:* " + fullRights, []string{"no access to keys like {wtcache:barrier:public.users}:wt"}},
		{"reads alone", "~* +eval +evalsha +info +scan +time +@read", []string{"may not run DEL, HDEL, HSET, PEXPIRE, PEXPIREAT, SET on keys like user:*"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := regexp.MustCompile("[^a-z]").ReplaceAllString(c.name, "")
			args := []any{"acl", "setuser", name, "reset", "on", ">pass"}
			for _, word := range strings.Fields(c.rules) {
				args = append(args, word)
			}
			if err := admin.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
			rdb := dial(t, strings.Replace(url, "USER", name, 1))
			cond := inspect(t, rdb, strictNeeds)
			text := judged(cond, strictNeeds, "rights") + judged(cond, strictNeeds, "scripts")
			for _, part := range c.want {
				if !strings.Contains(text, part) {
					t.Errorf("%q is not in\n%s", part, text)
				}
			}
			if len(c.want) == 0 && text != "" {
				t.Errorf("nothing is lacking, and it says\n%s", text)
			}
		})
	}
	t.Run("asking leaves no keys and no refusals behind", func(t *testing.T) {
		if keys := admin.Keys(t.Context(), "*").Val(); len(keys) > 0 {
			t.Errorf("there are %q", keys)
		}
		if log := admin.ACLLog(t.Context(), 10).Val(); slices.ContainsFunc(log, func(e *redis.ACLLogEntry) bool { return !strings.HasPrefix(e.Object, "ev") && e.Object != "acl|log" }) {
			t.Errorf("the server's log of refusals has %d lines of ours: %+v", len(log), *log[0])
		}
	})
}

// A command that a script begins to use must be among those whose rights are asked for, else a user who lacks it
// is told that all is well.
func TestRightsCoverEveryCommand(t *testing.T) {
	known := []string{"select"} // epoch.lua does without where it is forbidden
	for _, c := range slices.Concat(keyCommands, bareCommands, [][]string{waitAsk}) {
		known = append(known, c[0])
	}
	files, err := filepath.Glob("lua/*.lua")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	called := regexp.MustCompile(`redis\.p?call\('(\w+)'`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range called.FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains(known, strings.ToLower(m[1])) {
				t.Errorf("%s calls %s, and nobody asks whether the user may", file, m[1])
			}
		}
	}
}

// A server before 7.0 cannot be asked what a user may do: there each command is tried. What is tried must leave nothing behind, and
// never touch a barrier, which may be in use.
func TestRightsByTrying(t *testing.T) {
	server := testenv.NewRedis(t)
	server.Unvouched() // so that it is empty
	admin := dial(t, server.URL)
	try := func(rdb *redis.Client) *Server {
		old := strings.Replace(rightsLua, "if redis.acl_check_cmd", "if nil", 1)
		if old == rightsLua {
			t.Fatal("the script no longer asks whether it can ask")
		}
		all := questions(strictNeeds)
		_, args := chunkQuestions(all)
		got, err := rdb.Eval(t.Context(), old, nil, args...).StringSlice()
		if err != nil {
			t.Fatal(err)
		}
		var s Server
		s.readRights(all, got)
		return &s
	}
	barrier := "{wtcache:barrier:public.users}:wt"
	admin.HSet(t.Context(), barrier, "t:1", "1")
	if s := try(admin); s.Denied != nil {
		t.Errorf("the administrator is denied %+v", s.Denied)
	}
	if got := admin.HGetAll(t.Context(), barrier).Val(); len(got) != 1 {
		t.Errorf("the barrier holds %v", got)
	}
	if keys := admin.Keys(t.Context(), "*").Val(); len(keys) != 1 {
		t.Errorf("there are %q", keys)
	}
	if err := admin.Do(t.Context(), "acl", "setuser", "lasting", "on", ">pass", "~*", "+@all", "-set", "-pexpire", "-pexpireat").Err(); err != nil {
		t.Fatal(err)
	}
	try(dial(t, "unix://lasting:pass@"+admin.Options().Addr)) // what he leaves does not expire
	if keys := admin.Keys(t.Context(), "*").Val(); len(keys) != 1 {
		t.Errorf("there are %q", keys)
	}
	if err := admin.Do(t.Context(), "acl", "setuser", "low", "on", ">pass", "~user:*", "~o*", "~{o*", "+@all", "-hset").Err(); err != nil {
		t.Fatal(err)
	}
	s := try(dial(t, "unix://low:pass@"+admin.Options().Addr))
	at := slices.IndexFunc(s.Denied, func(d Denied) bool { return d.Keys == "{user:*}:wt" })
	if at < 0 || !s.Denied[at].All {
		t.Errorf("of control keys it finds %+v", s.Denied)
	}
	if at := slices.IndexFunc(s.Denied, func(d Denied) bool { return d.Keys == "user:*" }); at < 0 || !slices.Equal(s.Denied[at].Commands, []string{"hset"}) {
		t.Errorf("of keys it finds %+v", s.Denied)
	}
}

// Of a Cluster each master is judged, since each evicts by itself.
func TestInspectCluster(t *testing.T) {
	o, err := redis.ParseClusterURL(testenv.Cluster(t))
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClusterClient(o)
	defer rdb.Close()
	cond := inspect(t, rdb, strictNeeds)
	if cond.Topology != Cluster || len(cond.Servers) != 3 {
		t.Fatalf("found %+v", cond)
	}
	for _, s := range cond.Servers {
		if s.Role != "master" || s.Replicas != 1 || s.Policy != "noeviction" || s.Denied != nil || s.Lua != (Lua{}) || s.Version == "" {
			t.Errorf("found %+v", s)
		}
	}
	replicas := 0
	for _, f := range cond.Judge(strictNeeds) {
		if f.Severity > Info {
			t.Errorf("a sound Cluster is judged as %v", f)
		}
		if f.Subject == "replicas" {
			replicas++
			if strings.Count(f.Where, ", ") != 2 {
				t.Errorf("what is true of all three is said of %q", f.Where)
			}
		}
	}
	if replicas != 1 {
		t.Errorf("what is true of all three is said %d times", replicas)
	}
}

// A replica refuses fences: whoever names one by mistake must be told so, and not be left with a cache that is always off.
func TestInspectSentinelAndReplica(t *testing.T) {
	set := testenv.Sentinel(t)
	o, err := redis.ParseFailoverURL(set)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewFailoverClient(o)
	defer rdb.Close()
	cond := inspect(t, rdb, strictNeeds)
	if cond.Topology != Sentinel || cond.Servers[0].Role != "master" || cond.Servers[0].Replicas != 2 {
		t.Errorf("found %+v", cond)
	}
	if text := judged(cond, strictNeeds, "replicas"); !strings.Contains(text, "wait_replicas") {
		t.Errorf("judged as %q", text)
	}
	waiting := strictNeeds
	for waiting.WaitReplicas = 1; waiting.WaitReplicas <= 3; waiting.WaitReplicas++ {
		text := judged(inspect(t, rdb, waiting), waiting, "replicas")
		if few := waiting.WaitReplicas > 2; strings.HasPrefix(text, "error: ") != few {
			t.Errorf("of two replicas a rule waits for %d: %q", waiting.WaitReplicas, text)
		}
	}
	o.ReplicaOnly = true
	replica := redis.NewFailoverClient(o)
	defer replica.Close()
	if text := judged(inspect(t, replica, strictNeeds), strictNeeds, "role"); !strings.HasPrefix(text, "error: ") {
		t.Errorf("a replica is judged as %q", text)
	}
}

// What a restart brings back decides what readers of Redis are given after it.
func TestInspectPersistence(t *testing.T) {
	for _, c := range []struct {
		args []string
		word string
	}{
		{nil, "nothing is kept"},
		{[]string{"--save", "3600 1"}, "snapshots (3600 1)"},
		{[]string{"--appendonly", "yes"}, "(everysec)"},
		{[]string{"--appendonly", "yes", "--appendfsync", "always"}, ""},
	} {
		cond := inspect(t, dial(t, testenv.NewRedis(t, c.args...).URL), strictNeeds)
		if text := judged(cond, strictNeeds, "persistence"); !strings.Contains(text, c.word) || c.word == "" && text != "" {
			t.Errorf("%q is judged as %q", c.args, text)
		}
	}
}

// A dead server is no finding: the caller must be able to tell "not known" from "fine".
func TestInspectUnreachable(t *testing.T) {
	s := testenv.NewRedis(t)
	rdb := dial(t, s.URL)
	s.Kill()
	if cond, err := Inspect(t.Context(), rdb, strictNeeds); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %+v, %v", cond, err)
	}
	s.Restart()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Inspect(ctx, rdb, strictNeeds); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Tests on miniredis must not be told of a policy that it does not have.
func TestInspectMiniredis(t *testing.T) {
	m := miniredis.RunT(t)
	cond := inspect(t, dial(t, "redis://"+m.Addr()), strictNeeds)
	if found := cond.Judge(strictNeeds); len(found) > 0 {
		t.Errorf("it is judged as %v", found)
	}
	if keys := m.Keys(); len(keys) > 0 {
		t.Errorf("asking left %q behind", keys)
	}
}
