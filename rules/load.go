package rules

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const exampleRule = `write one such as users.yaml: "table: public.users" and "key: \"user:{id}\""`

// Load reads, checks and completes the rule files of a file system, which may be
// embedded in the program. Patterns are those of fs.Glob; without any, Load takes every
// *.yaml and *.yml file of the root that is not hidden (no sub-folders). The rules come
// sorted by file name. The error is an *Error with the findings of all files; there are
// no rules then.
func Load(fsys fs.FS, patterns ...string) ([]*Rule, error) {
	s := source{fsys: fsys, show: func(name string) string { return name }, folder: "the rules"}
	return s.load(patterns)
}

// LoadPath is Load for a folder, a file or a glob pattern of the operating system.
// Positions begin with the path as given.
func LoadPath(name string) ([]*Rule, error) {
	if name == "" {
		return nil, newError([]Finding{{Pos: Pos{File: "rules"}, Problem: "the path of the rules is empty", Fix: "name a folder, a file or a glob pattern"}})
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		s := source{
			fsys:   os.DirFS(name),
			show:   func(file string) string { return filepath.Join(name, filepath.FromSlash(file)) },
			folder: name,
		}
		return s.load(nil)
	case err == nil:
		return osSource(name).loadFiles([]string{name})
	case strings.ContainsAny(name, "*?["):
		return loadGlob(name)
	}
	return nil, newError([]Finding{{Pos: Pos{File: name}, Problem: "the rules cannot be read: " + cause(err),
		Fix: "name a folder, a file or a glob pattern that exists"}}, err)
}

func loadGlob(pattern string) ([]*Rule, error) {
	matches, err := filepath.Glob(pattern)
	if err != nil {
		return nil, newError([]Finding{{Pos: Pos{File: pattern}, Problem: "the pattern is malformed", Fix: `close every "["`}}, err)
	}
	matches = slices.DeleteFunc(matches, func(name string) bool {
		info, err := os.Stat(name)
		return err == nil && info.IsDir()
	})
	if len(matches) == 0 {
		return nil, newError([]Finding{noMatch(pattern)})
	}
	return osSource(pattern).loadFiles(matches)
}

// source is where rule files come from.
type source struct {
	fsys   fs.FS
	show   func(name string) string // a file's path as its user would write it
	folder string
}

// osSource reads files by their operating system paths, which an fs.FS would refuse
// where they are absolute or go upwards.
func osSource(folder string) source {
	return source{fsys: osFiles{}, show: func(name string) string { return name }, folder: folder}
}

type osFiles struct{}

func (osFiles) Open(name string) (fs.File, error) { return os.Open(name) }

func (s source) load(patterns []string) ([]*Rule, error) {
	if len(patterns) == 0 {
		names, err := s.list()
		if err != nil {
			return nil, err
		}
		return s.loadFiles(names)
	}
	var names []string
	var findings []Finding
	var causes []error
	for _, pattern := range patterns {
		matches, err := fs.Glob(s.fsys, pattern)
		switch {
		case err != nil:
			findings = append(findings, Finding{Pos: Pos{File: pattern}, Problem: "the pattern is malformed", Fix: `close every "["`})
			causes = append(causes, err)
		case len(matches) == 0:
			findings = append(findings, noMatch(pattern))
		}
		names = append(names, matches...)
	}
	if len(findings) > 0 {
		return nil, newError(findings, causes...)
	}
	return s.loadFiles(names)
}

// list gives the rule files of the root.
func (s source) list() ([]string, error) {
	entries, err := fs.ReadDir(s.fsys, ".")
	if err != nil {
		return nil, newError([]Finding{{Pos: Pos{File: s.folder}, Problem: "the folder cannot be read: " + cause(err),
			Fix: "name a folder, a file or a glob pattern that can be read"}}, err)
	}
	var names []string
	for _, entry := range entries {
		name := entry.Name()
		ext := path.Ext(name)
		// Editors leave hidden files behind (".#users.yaml", a link to nowhere).
		if entry.IsDir() || strings.HasPrefix(name, ".") || ext != ".yaml" && ext != ".yml" {
			continue
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, newError([]Finding{{Pos: Pos{File: s.folder}, Problem: "there are no rule files (*.yaml, *.yml) here", Fix: exampleRule}})
	}
	return names, nil
}

func (s source) loadFiles(names []string) ([]*Rule, error) {
	names = slices.Clone(names)
	slices.Sort(names)
	var loaded []*Rule
	var findings []Finding
	var causes []error
	for _, name := range slices.Compact(names) {
		file := s.show(name)
		data, err := readFile(s.fsys, name)
		if err != nil {
			findings = append(findings, Finding{Pos: Pos{File: file}, Problem: "the rule file cannot be read: " + cause(err)})
			causes = append(causes, err)
			continue
		}
		rule, faults := decodeFile(file, data)
		findings = append(findings, faults...)
		if rule != nil {
			loaded = append(loaded, rule)
		}
	}
	findings = append(findings, checkTogether(loaded)...)
	if len(findings) > 0 {
		return nil, newError(findings, causes...)
	}
	return loaded, nil
}

// readFile stops reading where a file is larger than decodeFile accepts.
func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("it is a folder")
	}
	return readLimited(f)
}

func noMatch(pattern string) Finding {
	return Finding{Pos: Pos{File: pattern}, Problem: "no file matches this pattern", Fix: fmt.Sprintf("name a folder, a file or a pattern that exists, or %s", exampleRule)}
}

// cause leaves out the path that an *fs.PathError repeats.
func cause(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}
