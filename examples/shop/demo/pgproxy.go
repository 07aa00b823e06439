package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
)

// pgProxy stands between a shop and Postgres and knows when Postgres has acknowledged a COMMIT.
type pgProxy struct {
	*proxy
	hook atomic.Pointer[commitHook]
}

// commitHook is called with the acknowledgement read and not yet passed on: Postgres has committed, the shop does not
// know. False cuts the connection instead of passing it on.
type commitHook func() (pass bool)

func newPGProxy(network, target string) (*pgProxy, error) {
	p := &pgProxy{}
	var err error
	p.proxy, err = newProxy(network, target, func(client, server net.Conn) {
		both(client, server, copyTo(server, client), func() error { return p.copyReplies(client, server) })
	})
	if err != nil {
		return nil, err
	}
	p.start()
	return p, nil
}

// atNextCommit calls hook once, at the next COMMIT of a transaction that has changed a row.
func (p *pgProxy) atNextCommit(hook commitHook) { p.hook.Store(&hook) }

var errCut = errors.New("connection cut")

const headerBytes = 5 // type, and the length of what follows, itself included

// copyReplies forwards what Postgres sends, message by message.
// Source: https://www.postgresql.org/docs/current/protocol-message-formats.html (CommandComplete)
func (p *pgProxy) copyReplies(dst io.Writer, src io.Reader) error {
	in, out := bufio.NewReader(src), bufio.NewWriter(dst)
	changed := false // in the transaction that is open
	for {
		if in.Buffered() < headerBytes {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		header, err := in.Peek(headerBytes)
		if err != nil {
			return err
		}
		size := 1 + int64(binary.BigEndian.Uint32(header[1:]))
		if header[0] != 'C' {
			if _, err := io.CopyN(out, in, size); err != nil {
				return err
			}
			continue
		}
		message := make([]byte, size)
		if _, err := io.ReadFull(in, message); err != nil {
			return err
		}
		switch tag := commandTag(message); {
		case changesRows(tag):
			changed = true
		case tag == "ROLLBACK":
			changed = false
		case tag == "COMMIT":
			if changed && !p.committed() {
				return errCut
			}
			changed = false
		}
		if _, err := out.Write(message); err != nil {
			return err
		}
	}
}

func (p *pgProxy) committed() (pass bool) {
	if hook := p.hook.Swap(nil); hook != nil {
		return (*hook)()
	}
	return true
}

func commandTag(message []byte) string {
	tag, _, _ := bytes.Cut(message[headerBytes:], []byte{0})
	return string(tag)
}

// changesRows reads tags such as "UPDATE 1" and "INSERT 0 1", whose last word is the number of rows.
func changesRows(tag string) bool {
	for _, verb := range []string{"INSERT ", "UPDATE ", "DELETE "} {
		if strings.HasPrefix(tag, verb) {
			return !strings.HasSuffix(tag, " 0")
		}
	}
	return false
}
