package wtcache

import (
	"fmt"
	"testing"

	"github.com/wtcache/wtcache/cachesync"
)

func owesKeys(from, n int) *owed {
	o := &owed{strict: map[string]cachesync.Entry{}, eventual: map[string]struct{}{}}
	for i := range n {
		key := fmt.Sprintf("k%d", from+i)
		if i%2 == 0 {
			o.strict[key] = cachesync.Entry{}
		} else {
			o.eventual[key] = struct{}{}
		}
	}
	return o
}

// A Redis that falls behind must not fill the program's memory with what it has not been told.
func TestBehindIsBounded(t *testing.T) {
	t.Parallel()
	var b behind
	add := func(o *owed) (remove func()) {
		done, ok := b.add(o)
		if !ok {
			return nil
		}
		return func() { b.remove(o, done) }
	}
	most := add(owesKeys(0, maxBehindKeys))
	if most == nil || add(owesKeys(0, 1)) != nil {
		t.Fatal("a transaction of as many keys as there may be goes behind, and nothing beside it")
	}
	most()
	if add(owesKeys(0, maxBehindKeys+1)) != nil {
		t.Error("a larger transaction goes behind")
	}
	var all []func()
	for i := range maxBehind {
		remove := add(owesKeys(2*i, 2))
		if remove == nil {
			t.Fatalf("of %d applies one was refused", i+1)
		}
		all = append(all, remove)
	}
	if add(owesKeys(0, 2)) != nil {
		t.Error("one more than there may be goes behind")
	}
	for _, remove := range all {
		remove()
	}
	if b.size != 0 || len(b.keys) != 0 || b.pending.Load() != 0 {
		t.Errorf("when all is done there are still %d keys, %v", b.size, b.keys)
	}
	b.close()
	if add(owesKeys(0, 2)) != nil {
		t.Error("after close one goes behind, and nobody waits for it")
	}
}

// A key that two commits have written is the readers' again when both are applied, and not before; the next writer waits for both.
func TestBehindKnowsItsKeys(t *testing.T) {
	t.Parallel()
	var b behind
	first, second := owesKeys(0, 2), owesKeys(1, 2)
	want := func(when, want string) {
		t.Helper()
		if got := fmt.Sprint([]bool{b.has("k0"), b.has("k1"), b.has("k2")}); got != want {
			t.Errorf("%s: pending are %v, want %v", when, got, want)
		}
	}
	want("at first", "[false false false]")
	one, _ := b.add(first)
	want("one commit", "[true true false]")
	two, _ := b.add(second)
	want("two", "[true true true]")
	waited := make(chan struct{})
	go func() {
		b.await(t.Context(), []string{"k0", "k1"})
		close(waited)
	}()
	b.remove(first, one)
	want("one is applied", "[false true true]")
	select {
	case <-waited:
		t.Error("a writer does not wait for the second")
	default:
	}
	b.remove(second, two)
	want("both are", "[false false false]")
	<-waited
	b.await(t.Context(), []string{"k0", "k1"})
}
