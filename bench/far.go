package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// distance is what a far measure's servers are away: long enough that a sleep keeps it.
const distance = 2 * time.Millisecond

// relay makes a server farther away: what comes in is passed on after half of the distance, in either direction.
type relay struct {
	listener net.Listener
	target   string // a unix socket
	wg       sync.WaitGroup

	mu     sync.Mutex // guards conns, which is nil once it is closed
	conns  map[net.Conn]bool
	folder string
}

// newRelay listens on a unix socket of the given name, in a folder of its own.
func newRelay(name, target string) (*relay, error) {
	folder, err := os.MkdirTemp("", "wtb-")
	if err != nil {
		return nil, err
	}
	r := &relay{target: target, conns: map[net.Conn]bool{}, folder: folder}
	if r.listener, err = net.Listen("unix", filepath.Join(folder, name)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	r.wg.Go(r.accept)
	return r, nil
}

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", r.target)
		if err != nil {
			_ = client.Close() // that is the client's to see
			continue
		}
		if !r.keep(client, server) {
			return
		}
		r.wg.Go(func() { pass(client, server) })
		r.wg.Go(func() { pass(server, client) })
	}
}

func (r *relay) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		if r.conns == nil {
			_ = c.Close() // too late
			continue
		}
		r.conns[c] = true
	}
	return r.conns != nil
}

// parcel is what was read at once, and when it is due.
type parcel struct {
	bytes []byte
	due   time.Time
}

// pass copies until one side closes, and then closes the other.
func pass(from, to net.Conn) {
	parcels := make(chan parcel, 64)
	go func() {
		defer close(parcels)
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				parcels <- parcel{append([]byte(nil), buffer[:n]...), time.Now().Add(distance / 2)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range parcels {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.bytes); err != nil {
			break
		}
	}
	_ = to.Close() // the other direction ends by it
	_ = from.Close()
	for range parcels { // its reader must not wait for us
	}
}

func (r *relay) close() error {
	err := r.listener.Close()
	r.mu.Lock()
	for c := range r.conns {
		_ = c.Close() // of no more use
	}
	r.conns = nil
	r.mu.Unlock()
	r.wg.Wait()
	return errors.Join(err, os.RemoveAll(r.folder))
}
