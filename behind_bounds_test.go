package wtcache

import (
	"fmt"
	"testing"

	"github.com/wtcache/wtcache/cachesync"
)

func owesKeys(from, n int) *owed {
	o := &owed{strict: map[string]cachesync.Entry{}, eventual: map[string]cachesync.Entry{}}
	for i := range n {
		into := o.strict
		if i%2 > 0 {
			into = o.eventual
		}
		into[fmt.Sprintf("k%d", from+i)] = cachesync.Entry{}
	}
	return o
}

// A Redis that falls behind must not fill the program's memory with what it has not been told.
func TestBehindIsBounded(t *testing.T) {
	t.Parallel()
	var b behind
	most := owesKeys(0, maxBehindKeys)
	if !b.add(most) || b.add(owesKeys(0, 1)) {
		t.Error("a transaction of as many keys as there may be goes behind, and nothing beside it")
	}
	b.remove(most)
	if b.add(owesKeys(0, maxBehindKeys+1)) {
		t.Error("a larger transaction goes behind")
	}
	var all []*owed
	for i := range maxBehind {
		all = append(all, owesKeys(2*i, 2))
		if !b.add(all[i]) {
			t.Fatalf("of %d applies one was refused", i+1)
		}
	}
	if b.add(owesKeys(0, 2)) {
		t.Error("one more than there may be goes behind")
	}
	for _, o := range all {
		b.remove(o)
	}
	if b.size != 0 || len(b.keys) != 0 || b.pending.Load() != 0 {
		t.Errorf("when all is done there are still %d keys, %v", b.size, b.keys)
	}
	b.close()
	if b.add(owesKeys(0, 2)) {
		t.Error("after close one goes behind, and nobody waits for it")
	}
}

// A key that two commits have written is the readers' again when both are applied, and not before.
func TestBehindKnowsItsKeys(t *testing.T) {
	t.Parallel()
	var b behind
	first, second := owesKeys(0, 2), owesKeys(1, 2)
	for i, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "[false false false]"},
		{func() { b.add(first) }, "[true true false]"},
		{func() { b.add(second) }, "[true true true]"},
		{func() { b.remove(first) }, "[false true true]"},
		{func() { b.remove(second) }, "[false false false]"},
	} {
		step.do()
		if got := fmt.Sprint([]bool{b.has("k0"), b.has("k1"), b.has("k2")}); got != step.want {
			t.Errorf("step %d: pending are %v, want %v", i, got, step.want)
		}
	}
}
