package rules

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/tools/txtar"
)

var updateGolden = flag.Bool("update", false, "rewrite the golden findings of testdata")

// The texts of findings are what a user works with: a wrong place or a fix that does not
// fit costs an hour of search. Each rule file of an archive is loaded alone.
func TestFindings(t *testing.T) {
	eachArchive(t, "testdata/findings", func(t *testing.T, archive *txtar.Archive) []txtar.File {
		var out []txtar.File
		for _, f := range archive.Files {
			if !strings.HasSuffix(f.Name, ".yaml") {
				continue
			}
			loaded, err := Load(fstest.MapFS{f.Name: {Data: f.Data}})
			if err == nil {
				t.Errorf("%s: loaded without a finding: %+v", f.Name, loaded)
			}
			out = append(out, f, txtar.File{Name: f.Name + ".want", Data: errorText(err)})
		}
		return out
	})
}

// A user mends all files after one look only if all of them are reported.
func TestFindingsTogether(t *testing.T) {
	eachArchive(t, "testdata/together", func(t *testing.T, archive *txtar.Archive) []txtar.File {
		fsys := fstest.MapFS{}
		var out []txtar.File
		for _, f := range archive.Files {
			if strings.HasSuffix(f.Name, ".yaml") {
				fsys[f.Name] = &fstest.MapFile{Data: f.Data}
				out = append(out, f)
			}
		}
		_, err := Load(fsys)
		return append(out, txtar.File{Name: "want", Data: errorText(err)})
	})
}

func errorText(err error) []byte {
	if err == nil {
		return nil
	}
	return []byte(err.Error() + "\n")
}

// eachArchive compares what a function makes of each archive with the archive itself.
func eachArchive(t *testing.T, folder string, remake func(*testing.T, *txtar.Archive) []txtar.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no archives in %s: %v", folder, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := txtar.Format(archive)
			archive.Files = remake(t, archive)
			got := txtar.Format(archive)
			if *updateGolden {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, want) {
				t.Errorf("findings differ (rewrite with -update if that is right):\n%s", firstDifference(string(got), string(want)))
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got:  " + g[i] + "\nwant: " + w[i]
		}
	}
	return "one text is longer"
}

func loadOne(t *testing.T, text string) *Rule {
	t.Helper()
	loaded, err := Load(fstest.MapFS{"rule.yaml": {Data: []byte(text)}})
	if err != nil {
		t.Fatalf("load:\n%v", err)
	}
	if len(loaded) != 1 {
		t.Fatalf("got %d rules, want 1", len(loaded))
	}
	return loaded[0]
}

// The two-line rule is the promise of an easy start: every default has to be there.
func TestShortestRule(t *testing.T) {
	r := loadOne(t, "# yaml-language-server: $schema=rule.schema.json\ntable: public.users\nkey: \"user:{id}\"\n")
	if len(r.Entries) != 1 || len(r.Shared) != 0 || len(r.Via) != 0 {
		t.Fatalf("got %+v", r)
	}
	if (r.Table != Name{"public", "users"}) || r.Consistency != Strict || r.Apply != Sync || r.RedisDown != Queue || r.NegativeTTL != 0 || r.Read != (ReadDefaults{}) {
		t.Errorf("got table %v, consistency %q, apply %q, redis_down %q", r.Table, r.Consistency, r.Apply, r.RedisDown)
	}
	got := *r.Entries[0]
	if got.Key.String() != "user:{id}" {
		t.Errorf("key %q", got.Key)
	}
	got.Key = nil
	want := Entry{Name: "by_id", Format: FormatEnvelope, Strategy: StrategyWrite, TTL: 10 * time.Minute, Jitter: 0.1}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

const fullRule = `table: public.users
via: [public.active_users]          # updatable views of it
entries:
  - name: by_id
    key: "user:{id}"
    columns: [id, name, email, org_id]    # default: all columns
    omit: [password_hash]
    rename: {org_id: orgId}
    format: envelope                 # plain
    strategy: write                  # invalidate
    ttl: 10m
    jitter: 10%
    when: "deleted_at IS NULL"       # SQL over the row
  - name: by_email
    key: "user:email:{email}"
invalidate: ["org:{org_id}:members"] # keys that other rows share
consistency: strict
redis_down: queue
capture: returning
version: lsn
negative_ttl: 5s                     # 0s: the absence of a row is not cached
read:                                # defaults of wtcache's reader
  max_age: 1m
  replica: true
  wait: 100ms
`

// Every documented key has to be understood, and its place known to the checks against
// the catalogue.
func TestFullRule(t *testing.T) {
	r := loadOne(t, fullRule)
	if len(r.Entries) != 2 || len(r.Shared) != 1 || len(r.Via) != 1 || r.Via[0] != (Name{"public", "active_users"}) {
		t.Fatalf("got %+v", r)
	}
	e := *r.Entries[0]
	e.Key = nil
	want := Entry{
		Name: "by_id", Columns: []string{"id", "name", "email", "org_id"}, Omit: []string{"password_hash"},
		Rename: map[string]string{"org_id": "orgId"}, Format: FormatEnvelope, Strategy: StrategyWrite,
		TTL: 10 * time.Minute, Jitter: 0.1, When: "deleted_at IS NULL", Path: "entries[0]",
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("got %+v\nwant %+v", e, want)
	}
	wait := 100 * time.Millisecond
	if read := (ReadDefaults{MaxAge: time.Minute, Replica: true, Wait: &wait}); !reflect.DeepEqual(r.Read, read) || r.NegativeTTL != 5*time.Second {
		t.Errorf("got %+v and negative_ttl %s", r.Read, r.NegativeTTL)
	}
	for path, place := range map[string]string{
		"read": "rule.yaml:23:3", "read.max_age": "rule.yaml:23:12", "read.replica": "rule.yaml:24:12", "read.wait": "rule.yaml:25:9",
		"negative_ttl": "rule.yaml:21:15",
		"table":        "rule.yaml:1:8", "via[0]": "rule.yaml:2:7", "entries[0]": "rule.yaml:4:5",
		"entries[0].name": "rule.yaml:4:11", "entries[0].key": "rule.yaml:5:10",
		"entries[0].columns": "rule.yaml:6:14", "entries[0].columns[2]": "rule.yaml:6:25",
		"entries[0].omit[0]": "rule.yaml:7:12", "entries[0].rename.org_id": "rule.yaml:8:14",
		"entries[0].format": "rule.yaml:9:13", "entries[0].strategy": "rule.yaml:10:15",
		"entries[0].ttl": "rule.yaml:11:10", "entries[0].jitter": "rule.yaml:12:13",
		"entries[0].when": "rule.yaml:13:11", "entries[1].key": "rule.yaml:15:10",
		"invalidate[0]": "rule.yaml:16:14", "consistency": "rule.yaml:17:14", "redis_down": "rule.yaml:18:13",
		// What is not written has the place of what is around it.
		"entries[1].columns[3]": "rule.yaml:14:5", "entries[7]": "rule.yaml:4:3", "nothing": "rule.yaml:1:8",
	} {
		if got := r.At(path).String(); got != place {
			t.Errorf("At(%q) = %s, want %s", path, got, place)
		}
	}
	if got := r.At(".entries[0].key"); got != r.At("entries[0].key") {
		t.Errorf("a leading dot changes the place: %s", got)
	}
}

// What people's editors and habits put into files must not stand in their way.
func TestForgivenSpellings(t *testing.T) {
	for name, text := range map[string]string{
		"byte order mark": "\uFEFFtable: users\nkey: \"user:{id}\"\n",
		"CRLF":            "table: users\r\nkey: \"user:{id}\"\r\n",
		"CR":              "table: users\rkey: \"user:{id}\"\r",
		"markers":         "---\ntable: users\nkey: \"user:{id}\"\n...\n",
		"empty rest":      "table: users\nkey: \"user:{id}\"\n---\n",
		"flow":            `{table: users, key: "user:{id}"}`,
		"bare template":   "table: users\nkey: user:{id}\n",
		"block":           "table: users\nkey: >-\n  user:{id}\n",
		"directive":       "%YAML 1.2\n---\ntable: users\nkey: 'user:{id}'\n",
		"upper case":      "table: PUBLIC.Users\nkey: 'user:{ID}'\n",
		"quoted":          "table: '\"public\".\"users\"'\nkey: 'user:{\"id\"}'\n",
		"tagged":          "table: !!str users\nkey: 'user:{id}'\n",
		"explicit key":    "? table\n: users\n? key\n: 'user:{id}'\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := loadOne(t, text)
			if (r.Table != Name{"public", "users"}) || len(r.Entries) != 1 || r.Entries[0].Key.Columns()[0] != "id" {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// A user who keeps common settings in one anchor gets them in every entry, the written
// ones winning.
func TestAnchors(t *testing.T) {
	r := loadOne(t, `
table: users
entries:
  - &common
    key: "user:{id}"
    ttl: &long 24h
    columns: &some [id, name]
  - <<: *common
    key: "user:name:{name}"
  - <<: [*common]
    key: "user:email:{email}"
    ttl: 1m
  - {key: "user:nick:{nick}", ttl: *long, columns: *some}
`)
	for i, want := range []string{"by_id 24h0m0s", "by_name 24h0m0s", "by_email 1m0s", "by_nick 24h0m0s"} {
		e := r.Entries[i]
		if got := e.Name + " " + e.TTL.String(); got != want || !reflect.DeepEqual(e.Columns, []string{"id", "name"}) {
			t.Errorf("entry %d: got %s %v, want %s", i, got, e.Columns, want)
		}
	}
}

func TestValues(t *testing.T) {
	for text, check := range map[string]func(*Entry) bool{
		"jitter: 0":             func(e *Entry) bool { return e.Jitter == 0 },
		"jitter: 0%":            func(e *Entry) bool { return e.Jitter == 0 },
		"jitter: 0.25":          func(e *Entry) bool { return e.Jitter == 0.25 },
		"jitter: '50 %'":        func(e *Entry) bool { return e.Jitter == 0.5 },
		"ttl: 1s":               func(e *Entry) bool { return e.TTL == time.Second },
		"ttl: 8760h":            func(e *Entry) bool { return e.TTL == 365*24*time.Hour },
		"ttl: 1h30m":            func(e *Entry) bool { return e.TTL == 90*time.Minute },
		"format: plain":         func(e *Entry) bool { return e.Format == FormatPlain },
		"format: hash":          func(e *Entry) bool { return e.Format == FormatHash },
		"format: versioned":     func(e *Entry) bool { return e.Format == FormatVersioned },
		"strategy: invalidate":  func(e *Entry) bool { return e.Strategy == StrategyInvalidate },
		"columns: ['\"A b\"']":  func(e *Entry) bool { return e.Columns[0] == "A b" },
		"rename: {'\"A\"': x}":  func(e *Entry) bool { return e.Rename["A"] == "x" },
		"rename: {a: b, b: a}":  func(e *Entry) bool { return e.Rename["a"] == "b" && e.Rename["b"] == "a" },
		"when: a <> '{'":        func(e *Entry) bool { return e.When == "a <> '{'" },
		"when: |\n  a\n  AND b": func(e *Entry) bool { return e.When == "a\nAND b" },
		"name: x-1.y_Z":         func(e *Entry) bool { return e.Name == "x-1.y_Z" },
	} {
		if e := loadOne(t, "table: users\nkey: 'user:{id}'\n"+text+"\n").Entries[0]; !check(e) {
			t.Errorf("%s: got %+v", text, e)
		}
	}
	r := loadOne(t, "table: users\ninvalidate: ['a:{from_id}', 'a:{to_id}']\nconsistency: eventual\napply: async\nredis_down: refuse\n")
	if len(r.Entries) != 0 || len(r.Shared) != 2 || r.Consistency != Eventual || r.Apply != Async || r.RedisDown != Refuse {
		t.Errorf("got %+v", r)
	}
}

// Bytes that are no text have to be refused with their place, not passed to the server.
func TestBytesThatAreNoText(t *testing.T) {
	for text, want := range map[string]string{
		"table: us\x00ers\n":                "r.yaml:1:10: the file holds a control character (0x00); remove it",
		"table: é\nkey: \x1b[0m":            "r.yaml:2:6: the file holds a control character (0x1b); remove it",
		"table: users\nkey: é\xff":          "r.yaml:2:7: the file is not UTF-8 text; save it as UTF-8",
		"\xff\xfet\x00":                     "r.yaml:1:1: the file is not UTF-8 text; save it as UTF-8",
		strings.Repeat("# x\n", 17<<10):     "r.yaml: the file is larger than 64 KiB; write one rule a file",
		"a: " + strings.Repeat("[", 1000):   "r.yaml:1:36: lists and mappings are nested too deeply; a rule needs two levels",
		"a:\n" + strings.Repeat("- ", 1000): "r.yaml:2:65: lists and mappings are nested too deeply; a rule needs two levels",
	} {
		_, err := Load(fstest.MapFS{"r.yaml": {Data: []byte(text)}})
		if err == nil || err.Error() != want {
			t.Errorf("%.20q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// A file that stands for millions of values by its aliases must not stop the program.
func TestAliasesAreCounted(t *testing.T) {
	text := "table: users\nentries:\n  - &a {key: 'u:{id}', columns: [" + strings.Repeat("c,", 5000) + "]}\n" +
		"  - {<<: [" + strings.Repeat("*a,", 10000) + "]}\n" + strings.Repeat("  - *a\n", 2000)
	_, err := Load(fstest.MapFS{"r.yaml": {Data: []byte(text)}})
	if err == nil || !strings.Contains(err.Error(), "aliases stand for too much") {
		t.Errorf("got %.200v", err)
	}
}

func TestLoadOrderAndPatterns(t *testing.T) {
	rule := func(table string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("table: " + table + "\nkey: '" + table + ":{id}'\n")}
	}
	fsys := fstest.MapFS{
		"b.yml": rule("b"), "a.yaml": rule("a"), "sub/c.yaml": rule("c"), "README.md": {Data: []byte("# not a rule")},
		".#a.yaml": {Data: []byte("an editor's lock")}, "d.yaml/e.yaml": rule("e"),
	}
	for _, test := range []struct {
		patterns []string
		want     string
	}{
		{nil, "a.yaml b.yml"},
		{[]string{"sub/*.yaml", "a.yaml", "[ab].y*ml"}, "a.yaml b.yml sub/c.yaml"},
	} {
		loaded, err := Load(fsys, test.patterns...)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range loaded {
			got = append(got, r.Pos.File)
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%q: got %s, want %s", test.patterns, s, test.want)
		}
	}
	for pattern, want := range map[string]string{
		"*.json": "*.json: no file matches this pattern; name a folder",
		"[":      `[: the pattern is malformed; close every "["`,
		"d.yaml": "d.yaml: the rule file cannot be read: it is a folder",
	} {
		_, err := Load(fsys, pattern)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v", pattern, err)
		}
	}
	_, err := Load(fstest.MapFS{})
	if err == nil || !strings.Contains(err.Error(), "there are no rule files") {
		t.Errorf("empty: got %v", err)
	}
}

// WTCACHE_RULES is typed by hand: folder, file and glob all work, and what is missing is
// named.
func TestLoadPath(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	users := write("rules/users.yaml", "table: users\nkey: 'user:{id}'\n")
	write("rules/old.yaml.d/x", "")
	write("empty/notes.txt", "")
	for _, path := range []string{filepath.Dir(users), filepath.Dir(users) + "/", users, filepath.Join(folder, "rules/*.y*ml*")} {
		loaded, err := LoadPath(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got := loaded[0].Pos.String(); len(loaded) != 1 || got != users+":1:8" {
			t.Errorf("%s: got %d rules, the first at %s", path, len(loaded), got)
		}
	}
	for path, want := range map[string]string{
		"":                                 "the path of the rules is empty",
		filepath.Join(folder, "none"):      "none: the rules cannot be read: no such file or directory; name a folder",
		filepath.Join(folder, "none/*"):    "none/*: no file matches this pattern; name a folder",
		filepath.Join(folder, "empty"):     "empty: there are no rule files (*.yaml, *.yml) here; write one",
		filepath.Join(folder, "rules/[x"):  "the pattern is malformed",
		filepath.Join(users, "users.yaml"): "not a directory",
	} {
		_, err := LoadPath(path)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
	_, err := LoadPath(filepath.Join(folder, "none"))
	var loadErr *Error
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &loadErr) {
		t.Errorf("a missing folder is no fs.ErrNotExist in an *Error: %v", err)
	}
}

// FuzzLoad looks for files that end the program, or that are refused without a finding
// or accepted without their defaults.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(fullRule))
	paths, err := filepath.Glob("testdata/findings/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if strings.HasSuffix(file.Name, ".yaml") {
				f.Add(file.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		loaded, err := Load(fstest.MapFS{"f.yaml": {Data: data}})
		if err != nil {
			var loadErr *Error
			if !errors.As(err, &loadErr) || len(loadErr.Findings) == 0 || loaded != nil {
				t.Fatalf("refused as %v with %v", err, loaded)
			}
			for _, finding := range loadErr.Findings {
				if finding.Pos.File != "f.yaml" || finding.Problem == "" || strings.ContainsAny(finding.String(), "\n\x00") {
					t.Fatalf("finding %q", finding)
				}
			}
			return
		}
		for _, r := range loaded {
			if r.Table.Table == "" || r.Table.Schema == "" || len(r.Entries)+len(r.Shared) == 0 {
				t.Fatalf("accepted %+v", r)
			}
			for _, e := range r.Entries {
				if e.Name == "" || e.Key == nil || e.TTL < time.Second || e.Jitter < 0 || e.Jitter > 0.5 || e.Format == "" || e.Strategy == "" {
					t.Fatalf("accepted entry %+v", e)
				}
			}
		}
	})
}

// A number of replicas that is taken for another one makes writes fail, or a failover lose fences.
func TestWaitReplicas(t *testing.T) {
	const head = "table: users\nkey: \"user:{id}\"\n"
	if r := loadOne(t, head); r.WaitReplicas != 0 {
		t.Errorf("by default: %d", r.WaitReplicas)
	}
	if r := loadOne(t, head+"wait_replicas: 2\n"); r.WaitReplicas != 2 {
		t.Errorf("got %d", r.WaitReplicas)
	}
	for _, text := range []string{"-1", "10", "1.5", "two", "'2'", "99999999999999999999"} {
		_, err := Load(fstest.MapFS{"rule.yaml": {Data: []byte(head + "wait_replicas: " + text + "\n")}})
		if err == nil || !strings.Contains(err.Error(), "wait_replicas") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
