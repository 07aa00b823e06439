package wtcachetest

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing/fstest"

	"github.com/DATA-DOG/go-sqlmock"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// Option sets New up.
type Option func(*setup) error

// setup is what the options say.
type setup struct {
	texts []string // of rule files
	path  string
	files fs.FS

	ddl   []string
	whens map[string]func(Row) bool

	mockDB *sql.DB
	mock   sqlmock.Sqlmock

	configure []func(*wtcache.Config)
}

// Rules gives rule files as YAML texts, one table each.
func Rules(yaml ...string) Option {
	return func(s *setup) error {
		s.texts = append(s.texts, yaml...)
		return nil
	}
}

// RulesFrom reads the rule files from a folder, a file or a glob, relative to the folder
// of the test's package.
func RulesFrom(path string) Option {
	return func(s *setup) error {
		s.path = path
		return nil
	}
}

// RulesFS reads the rule files from a file system, such as the embed.FS of the program.
func RulesFS(files fs.FS) Option {
	return func(s *setup) error {
		s.files = files
		return nil
	}
}

// Schema gives the tables as DDL: CREATE TABLE, and whatever else of a migration there
// is. Statements that define no table, index, type, trigger or rule are passed over.
// Without any Schema the tables are taken to have the columns that their rules name.
func Schema(ddl ...string) Option {
	return func(s *setup) error {
		s.ddl = append(s.ddl, ddl...)
		return nil
	}
}

// SchemaFrom is Schema over files or globs, those of a glob in the order of their names.
// Files of down migrations (….down.sql) are left out.
func SchemaFrom(globs ...string) Option {
	return func(s *setup) error {
		for _, glob := range globs {
			files, err := filepath.Glob(glob)
			if err == nil && len(files) == 0 {
				err = fs.ErrNotExist
			}
			if err != nil {
				return fmt.Errorf("schema %q: %w", glob, err)
			}
			for _, file := range files {
				if strings.HasSuffix(file, ".down.sql") {
					continue
				}
				text, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				s.ddl = append(s.ddl, string(text))
			}
		}
		return nil
	}
}

// When says in Go what the `when` of an entry ("users", or "users.by_email") says in SQL,
// which nothing here can run. Conditions of the form "column IS NULL" and "column IS NOT
// NULL" need none.
func When(entry string, holds func(Row) bool) Option {
	return func(s *setup) error {
		s.whens[entry] = holds
		return nil
	}
}

// Over uses a mock of the caller's own making, for sqlmock's options:
//
//	wtcachetest.Over(sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual)))
//
// The *sql.DB that sqlmock gives is closed at the test's end; the code under test gets
// the one of New.
func Over(db *sql.DB, mock sqlmock.Sqlmock, err error) Option {
	return func(s *setup) error {
		s.mockDB, s.mock = db, mock
		return err
	}
}

// Configure changes the driver's settings, such as Mode or MaxCapturedRows. Redis and the
// rules are set afterwards.
func Configure(change func(*wtcache.Config)) Option {
	return func(s *setup) error {
		s.configure = append(s.configure, change)
		return nil
	}
}

// load reads the rules once for the driver's settings and once for the model.
func (s *setup) load(cfg *wtcache.Config) ([]*rules.Rule, error) {
	given := 0
	for _, is := range []bool{len(s.texts) > 0, s.path != "", s.files != nil} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return nil, errors.New("no rules are given; add wtcachetest.RulesFrom(\"../rules\"), RulesFS or Rules")
	case given > 1:
		return nil, errors.New("rules are given in several ways; use one of Rules, RulesFrom and RulesFS")
	case s.path != "":
		cfg.RulesPath = s.path
		return rules.LoadPath(s.path)
	case s.files != nil:
		cfg.Rules = s.files
	default:
		files := fstest.MapFS{}
		for i, text := range s.texts {
			files[fmt.Sprintf("rule%d.yaml", i+1)] = &fstest.MapFile{Data: []byte(text)}
		}
		cfg.Rules = files
	}
	return rules.Load(cfg.Rules)
}

func (s *setup) definitions() (*parser.Definitions, error) {
	if s.ddl == nil {
		return nil, nil
	}
	return parser.ParseDefinitions(strings.Join(s.ddl, ";\n"))
}
