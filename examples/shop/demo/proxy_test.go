package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"testing/iotest"
)

// message makes a message of Postgres' protocol.
func message(kind byte, body string) []byte {
	m := binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body)))
	return append(m, body...)
}

func replies(tags ...string) []byte {
	stream := message('R', "\x00\x00\x00\x00")
	for _, tag := range tags {
		stream = append(stream, message('D', "COMMIT\x00")...) // data that looks like a tag
		stream = append(stream, message('C', tag+"\x00")...)
		stream = append(stream, message('Z', "I")...)
	}
	return stream
}

// TestCommitIsSeen: a fault that is put at another place than behind COMMIT proves nothing.
func TestCommitIsSeen(t *testing.T) {
	for _, tt := range []struct {
		name string
		tags []string
		seen bool
	}{
		{"commit of a write", []string{"BEGIN", "UPDATE 1", "COMMIT"}, true},
		{"commit of an insert", []string{"BEGIN", "INSERT 0 2", "COMMIT"}, true},
		{"commit of a delete behind a read", []string{"BEGIN", "DELETE 1", "SELECT 1", "COMMIT"}, true},
		{"commit of a read", []string{"BEGIN", "SELECT 1", "COMMIT"}, false},
		{"commit of a write of no row", []string{"BEGIN", "UPDATE 0", "COMMIT"}, false},
		{"rollback of a write", []string{"BEGIN", "UPDATE 1", "ROLLBACK"}, false},
		{"read behind a rolled back write", []string{"UPDATE 1", "ROLLBACK", "SELECT 1", "COMMIT"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stream := replies(tt.tags...)
			p := &pgProxy{}
			calls := 0
			p.atNextCommit(func() bool { calls++; return true })
			var out bytes.Buffer
			// One byte at a time: messages arrive in pieces.
			_ = p.copyReplies(&out, iotest.OneByteReader(bytes.NewReader(stream))) // ends with the stream
			if got := calls == 1; got != tt.seen {
				t.Errorf("the hook ran %d times, want it to run: %v", calls, tt.seen)
			}
			if !bytes.Equal(out.Bytes(), stream) {
				t.Error("the shop would get other bytes than Postgres sent")
			}
		})
	}
}

// TestCommitIsCut: of a COMMIT that is cut off the shop must not see a byte.
func TestCommitIsCut(t *testing.T) {
	p := &pgProxy{}
	p.atNextCommit(func() bool { return false })
	var out bytes.Buffer
	err := p.copyReplies(&out, bytes.NewReader(replies("UPDATE 1", "COMMIT")))
	if !errors.Is(err, errCut) {
		t.Errorf("error %v, want %v", err, errCut)
	}
	if bytes.Contains(out.Bytes(), message('C', "COMMIT\x00")) {
		t.Error("the acknowledgement was passed on")
	}
}

// TestHeldRequest: a request that is held must not reach Redis before it is released, and must reach it whole then.
func TestHeldRequest(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p, err := newRedisProxy("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	client, err := net.Dial("tcp", p.addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	redisSide, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer redisSide.Close()

	const first, second = "*1\r\n$4\r\nPING\r\n", "*3\r\n$3\r\nSET\r\n$9\r\nproduct:1\r\n$1\r\nx\r\n"
	in := bufio.NewReader(redisSide)
	send := func(request string) {
		if _, err := client.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(want string) {
		got := make([]byte, len(want))
		for n := range got {
			b, err := in.ReadByte()
			if err != nil {
				t.Fatal(err)
			}
			got[n] = b
		}
		if string(got) != want {
			t.Fatalf("redis got %q, want %q", got, want)
		}
	}
	send(first)
	receive(first)
	held := p.hold()
	send(second)
	if got := <-held; got != "SET product:1" {
		t.Errorf("held %q", got)
	}
	// What overtakes the held request on the server's side must arrive first.
	if _, err := redisSide.Write([]byte("+OK\r\n")); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 5)
	if _, err := client.Read(reply); err != nil {
		t.Fatal(err)
	}
	if in.Buffered() != 0 {
		t.Error("the held request has reached redis")
	}
	p.release()
	receive(second)
}

// TestDescribe: the demo's report must name the request that was held.
func TestDescribe(t *testing.T) {
	for request, want := range map[string]string{
		"*2\r\n$3\r\nget\r\n$6\r\nuser:1\r\n":                               "GET user:1",
		"*4\r\n$7\r\nevalsha\r\n$2\r\nab\r\n$1\r\n3\r\n$9\r\nproduct:3\r\n": "EVALSHA on product:3",
		"*1\r\n$4\r\nPING\r\n":                                              "PING",
		"PING\r\n":                                                          "a request",
		"*2\r\n$3\r\nGET\r\n$99\r\nus":                                      "GET",
		"":                                                                  "a request",
	} {
		if got := describe([]byte(request)); got != want {
			t.Errorf("%q is called %q, want %q", request, got, want)
		}
	}
}
