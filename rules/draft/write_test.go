package draft_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wtcache/wtcache/rules/draft"
)

// TestWrite: what somebody has written into a rule file is not lost by a second init.
func TestWrite(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "new", "rules")
	f := &draft.File{Name: "users.yaml", Text: "table: public.users\nkey: \"users:{id}\"\n"}
	path := filepath.Join(folder, f.Name)
	step := func(want draft.Action, decide draft.Decide, holds string) {
		t.Helper()
		got, err := f.Write(folder, decide)
		text, _ := os.ReadFile(path)
		if got != want || err != nil || string(text) != holds {
			t.Errorf("the file is %s (%v) and holds %q; want %s and %q", got, err, text, want, holds)
		}
	}
	never := func(string) (bool, error) { t.Error("there is nothing to ask"); return false, nil }
	step(draft.Written, never, f.Text)
	step(draft.Unchanged, never, f.Text)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	step(draft.Kept, draft.Keep, "mine")
	var asked string
	step(draft.Replaced, func(p string) (bool, error) { asked = p; return true, nil }, f.Text)
	if asked != path {
		t.Errorf("asked about %q", asked)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode of a replaced file changed: %v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(folder); len(left) != 1 {
		t.Errorf("there is more than the file: %v", left)
	}
}

// TestWriteThroughLink: a rule file that is a link into another folder stays one.
func TestWriteThroughLink(t *testing.T) {
	t.Parallel()
	folder, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "u.yaml")
	if err := os.WriteFile(elsewhere, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(folder, "users.yaml")); err != nil {
		t.Skip(err)
	}
	f := &draft.File{Name: "users.yaml", Text: "drafted"}
	if _, err := f.Write(folder, draft.Replace); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(elsewhere); string(text) != "drafted" {
		t.Errorf("the link's file holds %q", text)
	}
	if info, _ := os.Lstat(filepath.Join(folder, "users.yaml")); info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link is a link no more")
	}
}

// TestWriteNothing: after an answer that is an error, or where a folder is in the way, the place is as it was.
func TestWriteNothing(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	f := &draft.File{Name: "users.yaml", Text: "drafted"}
	path := filepath.Join(folder, f.Name)
	if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("nobody is there")
	if _, err := f.Write(folder, func(string) (bool, error) { return true, gone }); !errors.Is(err, gone) {
		t.Errorf("the error is %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "mine" {
		t.Errorf("the file holds %q", text)
	}
	if err := os.Mkdir(filepath.Join(folder, "orders.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := (&draft.File{Name: "orders.yaml", Text: "drafted"}).Write(folder, draft.Replace); err == nil {
		t.Error("a folder is taken for a file")
	}
}

// TestInTheWay: keys are not drafted beside a file whose keys nobody can read; a file that a draft is to
// replace is nobody's concern.
func TestInTheWay(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, name := range []string{"users.yaml", "broken.yml", ".hidden.yaml", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("tabel: x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, faulty, err := draft.Existing(folder)
	if err != nil || len(faulty) != 2 {
		t.Fatalf("faulty are %v: %v", faulty, err)
	}
	result := &draft.Result{Files: []*draft.File{{Name: "users.yaml"}}}
	if err := result.InTheWay(faulty); err == nil || !strings.Contains(err.Error(), "broken.yml:1:1") || strings.Contains(err.Error(), "users.yaml") {
		t.Errorf("in the way is: %v", err)
	}
	if _, _, err := draft.Existing(filepath.Join(folder, "missing")); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
}
