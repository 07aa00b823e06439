package torture

import (
	"bufio"
	"net"
	"testing"
	"time"
)

// echo answers each line with the same, in a message like Postgres' of a new session's number at first.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Write([]byte("K\x00\x00\x00\x0c\x00\x00\x00\x2a\n"))
				in := bufio.NewReader(c)
				for {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					_, _ = c.Write([]byte(line))
				}
			}()
		}
	}()
	return l.Addr().String()
}

type talk struct {
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, l *Link) talk {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	k := talk{c, bufio.NewReader(c)}
	if _, err := k.in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k talk) say(t *testing.T, text string) {
	t.Helper()
	if _, err := k.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (k talk) hear() string {
	line, _ := k.in.ReadString('\n')
	return line
}

func newLink(t *testing.T) *Link {
	t.Helper()
	l, err := NewLink("tcp", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// A nemesis that ends the wrong session, or holds nothing back, makes a run that shows nothing.
func TestLinkCatches(t *testing.T) {
	for _, reply := range []bool{false, true} {
		l := newLink(t)
		other, k := dial(t, l), dial(t, l)
		s := l.Catch("commit", reply)
		other.say(t, "SELECT 1\n")
		if got := other.hear(); got != "SELECT 1\n" {
			t.Errorf("another request was answered by %q", got)
		}
		k.say(t, "COMMIT\n")
		<-s.Caught()
		if s.Session() != 42 {
			t.Errorf("session %d was caught", s.Session())
		}
		s.Release(false)
		if got := k.hear(); got != "" {
			t.Errorf("the answer to a COMMIT that was cut is %q", got)
		}
	}
}

// What is sent into a partition arrives when it ends.
func TestLinkHolds(t *testing.T) {
	l := newLink(t)
	k := dial(t, l)
	l.Hold()
	k.say(t, "SET\n")
	if err := k.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if got := k.hear(); got != "" {
		t.Errorf("%q came over a link that is held", got)
	}
	if err := k.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	l.Heal()
	if got := k.hear(); got != "SET\n" {
		t.Errorf("%q", got)
	}
	l.Refuse()
	if got := k.hear(); got != "" {
		t.Errorf("%q came over a link that is cut", got)
	}
	l.Heal()
	again := dial(t, l)
	again.say(t, "GET\n")
	if got := again.hear(); got != "GET\n" {
		t.Errorf("%q", got)
	}
}
