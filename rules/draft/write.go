package draft

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/rules"
)

// Action is what became of a drafted file.
type Action string

// The actions.
const (
	Written   Action = "written"   // there was none
	Replaced  Action = "replaced"  // the one that was there is gone
	Kept      Action = "kept"      // the one that is there differs, and stays
	Unchanged Action = "unchanged" // the one that is there is the same
	Drafted   Action = "drafted"   // nothing was to be written
)

// Decide says whether a file that is there, and differs from its draft, is to be replaced.
// An error ends the writing.
type Decide func(path string) (replace bool, err error)

// Keep is the Decide that replaces nothing.
func Keep(string) (bool, error) { return false, nil }

// Replace is the Decide that replaces everything.
func Replace(string) (bool, error) { return true, nil }

// Existing reads the rules of a folder file by file. faulty are the files, by path, that hold no
// rule that can be loaded. A folder that is not there has no rules.
func Existing(folder string) (loaded []*rules.Rule, faulty map[string]error, err error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	faulty = map[string]error{}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || ext != ".yaml" && ext != ".yml" {
			continue
		}
		path := filepath.Join(folder, e.Name())
		one, err := rules.LoadPath(path)
		if err != nil {
			faulty[path] = err
		}
		loaded = append(loaded, one...)
	}
	return loaded, faulty, nil
}

// Write writes a draft into a folder, which it makes where it is not there. What is there
// and differs is for decide. A file is there as a whole or not at all, whenever the process
// ends. The error is that of the file system or of decide; nothing is written then.
func (f *File) Write(folder string, decide Decide) (Action, error) {
	path := filepath.Join(folder, f.Name)
	switch found, err := os.ReadFile(path); {
	case err == nil && string(found) == f.Text:
		return Unchanged, nil
	case err == nil:
		replace, err := decide(path)
		if err != nil || !replace {
			return Kept, err
		}
		return Replaced, f.replace(path)
	case !errors.Is(err, fs.ErrNotExist):
		return Kept, err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return Kept, err
	}
	return f.create(path, decide)
}

// create writes a file that is not there. One that appears in the meantime is not overwritten.
func (f *File) create(path string, decide Decide) (Action, error) {
	temporary, err := f.temporary(filepath.Dir(path), 0o644)
	if err != nil {
		return Kept, err
	}
	defer os.Remove(temporary)
	err = os.Link(temporary, path)
	switch {
	case err == nil:
		return Written, nil
	case errors.Is(err, fs.ErrExist):
		return f.Write(filepath.Dir(path), decide)
	}
	// A file system without links.
	return Written, os.Rename(temporary, path)
}

// replace puts the draft where another file is, with that one's mode. A link stays a link.
func (f *File) replace(path string) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	temporary, err := f.temporary(filepath.Dir(target), info.Mode().Perm())
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, target); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// temporary writes the text into a hidden file, which rules.Load passes over.
func (f *File) temporary(folder string, mode fs.FileMode) (path string, err error) {
	file, err := os.CreateTemp(folder, "."+f.Name+".*.tmp")
	if err != nil {
		return "", err
	}
	_, err = file.WriteString(f.Text)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err != nil {
		return "", errors.Join(fmt.Errorf("write %s: %w", file.Name(), err), os.Remove(file.Name()))
	}
	return file.Name(), nil
}

// InTheWay gives the faults of existing files that no draft is going to replace: what keys they
// have, or were meant to have, is not known, so that nothing can be drafted beside them.
func (r *Result) InTheWay(faulty map[string]error) error {
	var errs []error
	for path, err := range faulty {
		if !slices.ContainsFunc(r.Files, func(f *File) bool { return f.Name == filepath.Base(path) }) {
			errs = append(errs, err)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}
