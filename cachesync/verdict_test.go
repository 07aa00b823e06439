package cachesync

import (
	"encoding/json"
	"strings"
	"testing"
)

// The forks of Redis answer INFO in ways of their own; a wrong name leads to advice that does not work.
func TestJudgeSoftware(t *testing.T) {
	for _, c := range []struct {
		info, software, version string
		want                    string // a part of the finding about the version, or of the one about the role
	}{
		{"redis_version:7.0.15", "Redis", "7.0.15", ""},
		{"redis_version:6.2.0", "Redis", "6.2.0", ""},
		{"redis_version:6.0.16", "Redis", "6.0.16", "warning: version: Redis 6.0.16 is older than 6.2"},
		{"redis_version:4.0.14", "Redis", "4.0.14", "error: version: Redis 4.0.14 is too old"},
		{"redis_version:10.0.1", "Redis", "10.0.1", ""},
		{"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.0", "Valkey", "8.1.0", ""},
		{"redis_version:6.3.4\r\nexecutable:/usr/bin/keydb-server", "KeyDB", "6.3.4", "info: version: the server is KeyDB"},
		{"redis_version:6.3.4\r\nrole:active-replica", "KeyDB", "6.3.4", "error: role: the server is an active replica"},
		{"redis_version:7.2.0\r\ndragonfly_version:df-v1.30.0\r\nmaxmemory:100\r\ncache_mode:cache", "Dragonfly", "1.30.0", "error: eviction: Dragonfly's cache_mode"},
		{"redis_version:7.2.0\r\ndragonfly_version:df-v1.30.0\r\ncache_mode:store\r\nmaxmemory_policy:noeviction", "Dragonfly", "1.30.0", "warning: version: the server is Dragonfly"},
		{"redis_version:unreleased", "Redis", "unreleased", ""},
	} {
		s := Server{MaxMemoryBytes: Unknown, UsedBytes: Unknown, EvictedKeys: Unknown, Replicas: Unknown}
		s.readInfo("# Server\r\nmaxmemory:0\r\n" + c.info + "\r\n")
		if s.Software != c.software || s.Version != c.version {
			t.Errorf("%q is taken for %s %s", c.info, s.Software, s.Version)
		}
		cond := Condition{Servers: []Server{s}}
		var text []string
		for _, f := range cond.Judge(Needs{Strict: true}) {
			text = append(text, f.String())
		}
		if all := strings.Join(text, "\n"); !strings.Contains(all, c.want) || c.want == "" && strings.Contains(all, "version") {
			t.Errorf("%q is judged as\n%s", c.info, all)
		}
	}
}

// Under noeviction a full Redis refuses fences: what that does to a user's writes depends on the rules.
func TestJudgeFullMemory(t *testing.T) {
	full := Server{Role: "master", Policy: "noeviction", MaxMemoryBytes: 100, UsedBytes: 95, EvictedKeys: Unknown, Replicas: Unknown}
	for _, c := range []struct {
		queue, refuse bool
		want          string
	}{{true, false, "commit and owe"}, {false, true, "rolled back"}, {true, true, "those with refuse roll back"}} {
		needs := Needs{Strict: true, Queue: c.queue, Refuse: c.refuse}
		text := judged(&Condition{Servers: []Server{full}}, needs, "memory")
		if !strings.HasPrefix(text, "warning: ") || !strings.Contains(text, c.want) {
			t.Errorf("queue %v, refuse %v: %q", c.queue, c.refuse, text)
		}
	}
}

// Monitoring reads the findings as JSON: the severity has to be the word, and to be readable back.
func TestFindingJSON(t *testing.T) {
	text, err := json.Marshal(Finding{Severity: Warning, Subject: "eviction", Where: "host:1", Problem: "p"})
	if err != nil || string(text) != `{"severity":"warning","subject":"eviction","where":"host:1","problem":"p"}` {
		t.Errorf("got %s, %v", text, err)
	}
	var back Finding
	if err := json.Unmarshal(text, &back); err != nil || back.Severity != Warning {
		t.Errorf("got %+v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"severity":"fatal"}`), &back); err == nil {
		t.Error("an unknown severity was read")
	}
}
