package parser

import (
	"hash/maphash"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// maxCachedText is the longest text that a Cache keeps, in bytes.
	maxCachedText = 64 << 10
	// maxShards bounds the shards of a Cache; shardEntries is how many entries a
	// shard should have before there is another: a Put copies its shard's map.
	maxShards    = 256
	shardEntries = 64
)

// Cache maps exact SQL texts to plans, or to anything. It is bounded in entries
// and in bytes of text, and safe for concurrent use. A Get takes no lock and
// writes nothing that other readers read, so it scales with the cores: each
// shard's map is never changed but replaced.
type Cache[V any] struct {
	seed   maphash.Seed
	mask   uint64
	shards []shard[V]
	seen   doorkeeper
}

// shard is one part of a Cache.
type shard[V any] struct {
	entries atomic.Pointer[map[string]*entry[V]]

	mu sync.Mutex
	// mu guards the fields below and stores to entries. Nothing that waits runs under it.
	ring       []*entry[V] // second chance: the hand passes over entries used since its last visit
	hand       int
	bytes      int
	maxEntries int
	maxBytes   int

	_ [64]byte // keep neighbours off the cache line
}

type entry[V any] struct {
	text  string
	bytes int // that it counts as
	value V
	used  atomic.Bool
}

// NewCache makes a Cache of at most the given entries and bytes of text; values
// below 1 mean a Cache that keeps nothing.
func NewCache[V any](entries, bytes int) *Cache[V] {
	n := 1
	for n < maxShards && entries/(2*n) >= shardEntries && bytes/(2*n) >= 4*maxCachedText {
		n *= 2
	}
	c := &Cache[V]{seed: maphash.MakeSeed(), mask: uint64(n - 1), shards: make([]shard[V], n), seen: newDoorkeeper(entries)}
	for i := range c.shards {
		s := &c.shards[i]
		s.maxEntries, s.maxBytes = entries/n, bytes/n
		s.entries.Store(&map[string]*entry[V]{})
	}
	return c
}

func (c *Cache[V]) hash(sql string) uint64 { return maphash.String(c.seed, sql) }

func (c *Cache[V]) hashShape(s *Shape) uint64 { return maphash.Bytes(c.seed, s.key) }

func (c *Cache[V]) shardAt(hash uint64) *shard[V] { return &c.shards[hash&c.mask] }

// Get returns what was put for exactly this text. It does not allocate.
func (c *Cache[V]) Get(sql string) (V, bool) {
	if len(sql) > maxCachedText {
		var none V
		return none, false
	}
	e := (*c.shardAt(c.hash(sql)).entries.Load())[sql]
	if e == nil {
		var none V
		return none, false
	}
	e.use()
	return e.value, true
}

// use marks the entry for the hand, without writing what is there already.
func (e *entry[V]) use() {
	if !e.used.Load() {
		e.used.Store(true)
	}
}

// Again reports whether it was asked about this text before, as far as it remembers:
// now and then it says so of a text that it was not asked about. What is cheap to make
// anew is worth a Put only from the second time on, since many texts never come again.
func (c *Cache[V]) Again(sql string) bool {
	return len(sql) <= maxCachedText && c.seen.again(c.hash(sql))
}

// Put keeps a value for a text, in place of one that is there. A text over
// 64 KiB is not kept. The text is copied, so the caller's buffer is not held.
func (c *Cache[V]) Put(sql string, v V) {
	if len(sql) > maxCachedText {
		return
	}
	c.shardAt(c.hash(sql)).put(sql, v, len(sql))
}

// put keeps a value that counts as so many bytes.
func (s *shard[V]) put(sql string, v V, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.maxEntries < 1 || bytes > s.maxBytes {
		return
	}
	next := maps.Clone(*s.entries.Load())
	e := &entry[V]{text: strings.Clone(sql), value: v, bytes: bytes}
	if old := next[sql]; old != nil {
		for i := range s.ring {
			if s.ring[i] == old {
				s.ring[i] = e
			}
		}
		s.bytes += bytes - old.bytes
	} else {
		for len(s.ring) >= s.maxEntries || s.bytes+bytes > s.maxBytes {
			s.evict(next)
		}
		s.ring = append(s.ring, e)
		s.bytes += bytes
	}
	delete(next, e.text)
	next[e.text] = e
	s.entries.Store(&next)
}

// evict drops the first entry from the hand on that was not used since the hand
// passed it last; after a round, whatever is under the hand, since readers may
// mark entries as fast as it clears them. The caller holds mu.
func (s *shard[V]) evict(next map[string]*entry[V]) {
	for passed := 0; ; passed++ {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		e := s.ring[s.hand]
		if passed < len(s.ring) && e.used.Swap(false) {
			s.hand++
			continue
		}
		delete(next, e.text)
		s.bytes -= e.bytes
		last := len(s.ring) - 1
		s.ring[s.hand] = s.ring[last]
		s.ring[last] = nil
		s.ring = s.ring[:last]
		return
	}
}

// doorkeeper remembers the texts that came lately, by their hashes alone. Each has two
// marks, so that two texts that take turns do not keep each other out.
type doorkeeper struct{ marks []atomic.Uint32 }

func newDoorkeeper(entries int) doorkeeper {
	n := 64
	for n < 4*entries && n < 1<<16 {
		n *= 2
	}
	return doorkeeper{marks: make([]atomic.Uint32, n)}
}

func (d *doorkeeper) again(hash uint64) bool {
	mark, mask := uint32(hash)|1, uint64(len(d.marks)-1)
	a, b := &d.marks[hash>>24&mask], &d.marks[hash>>44&mask]
	if a.Load() == mark || b.Load() == mark {
		return true
	}
	a.Store(mark)
	b.Store(mark)
	return false
}

// Len returns the number of entries.
func (c *Cache[V]) Len() int {
	n := 0
	for i := range c.shards {
		n += len(*c.shards[i].entries.Load())
	}
	return n
}

// Bytes returns the bytes of the texts that are kept, and of what is kept with shapes.
func (c *Cache[V]) Bytes() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += s.bytes
		s.mu.Unlock()
	}
	return n
}
