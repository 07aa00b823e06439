package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestQuestion: a careless Enter keeps a file, "all" is asked no further, and an end of input is no yes.
func TestQuestion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typed string
		want  string // of three files: y or n each, ! for an error
	}{
		{"y\nn\n\n", "ynn"}, {"Yes\nno\nY\n", "yny"}, {"a\n", "yyy"}, {"n\nall\n", "nyy"}, {"q\n", "nnn"}, {"y\nquit\n", "ynn"},
		{"what\ny\nn\ny\n", "yny"}, {"", "!!!"}, {"y\n", "y!!"}, {"y", "!!!"},
	} {
		var said bytes.Buffer
		q := &question{in: strings.NewReader(c.typed), out: &said}
		got := ""
		for range 3 {
			switch replace, err := q.ask("rules/users.yaml"); {
			case err != nil && errors.Is(err, errNoAnswer) && !replace:
				got += "!"
			case err == nil && replace:
				got += "y"
			case err == nil:
				got += "n"
			}
		}
		if got != c.want {
			t.Errorf("%q answers %s, want %s", c.typed, got, c.want)
		}
		if !strings.Contains(said.String(), "rules/users.yaml is there and differs. Overwrite it?") {
			t.Errorf("it asks %q", said.String())
		}
	}
	broken := errors.New("broken")
	if _, err := (&question{in: failing{broken}, out: io.Discard}).ask("x"); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
