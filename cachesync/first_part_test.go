package cachesync

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// What may stand under the names of one key, whoever put it there: a name of a case, and what makes it.
type placed struct {
	name string
	put  func(redis.Pipeliner, *firstPart)
}

// firstPart is one key on which a script is run whole and without its first part.
type firstPart struct {
	names      siblings
	mine       tokens
	nonce      string
	format     Format
	value, old encoded
}

func (f *firstPart) header() string {
	return f.value.head + "1700000000000" + f.value.tail
}

func placeString(name func(siblings) string, text func(*firstPart) string) func(redis.Pipeliner, *firstPart) {
	return func(p redis.Pipeliner, f *firstPart) {
		p.Set(context.Background(), name(f.names), text(f), time.Minute)
	}
}

func placeHash(name func(siblings) string, fields func(*firstPart) []any) func(redis.Pipeliner, *firstPart) {
	return func(p redis.Pipeliner, f *firstPart) {
		p.HSet(context.Background(), name(f.names), fields(f)...)
		p.PExpire(context.Background(), name(f.names), time.Minute)
	}
}

func placeList(name func(siblings) string) func(redis.Pipeliner, *firstPart) {
	return func(p redis.Pipeliner, f *firstPart) {
		p.RPush(context.Background(), name(f.names), "not ours")
		p.PExpire(context.Background(), name(f.names), time.Minute)
	}
}

func theKey(n siblings) string     { return n.key }
func theControl(n siblings) string { return n.control }
func theMeta(n siblings) string    { return n.meta }
func thePointer(n siblings) string { return n.pointer }

func literally(s string) func(*firstPart) string { return func(*firstPart) string { return s } }

func nothing(redis.Pipeliner, *firstPart) {}

var soon = func() int64 { return time.Now().Add(time.Minute).UnixMilli() }

var (
	placedValues = []placed{
		{"none", nothing},
		{"envelope", placeString(theKey, func(f *firstPart) string { return f.header() + string(f.value.payload) + "}" })},
		{"bare", placeString(theKey, literally(`{"n":5}`))},
		{"hash", placeHash(theKey, func(f *firstPart) []any {
			return []any{"data", "{}", "version", f.value.version, "written_at", "1700000000000", "checksum", "01234567", "schema", testSchema}
		})},
		{"list", placeList(theKey)},
	}
	placedMetas = []placed{
		{"none", nothing}, {"header", placeString(theMeta, (*firstPart).header)}, {"list", placeList(theMeta)},
	}
	placedPointers = []placed{
		{"none", nothing}, {"ours", func(p redis.Pipeliner, f *firstPart) {
			placeString(thePointer, func(f *firstPart) string { return f.names.version(f.value.version) })(p, f)
			p.Set(context.Background(), f.names.version(f.value.version), `{"n":5}`, time.Minute)
		}}, {"foreign", placeString(thePointer, literally("another program's"))},
	}
	placedControls = []placed{
		{"none", nothing},
		{"my lease", placeString(theControl, func(f *firstPart) string { return f.nonce })},
		{"other's lease", placeString(theControl, literally("NONCE"))},
		{"my fence", placeString(theControl, func(f *firstPart) string { return "f:" + f.mine.own })},
		{"an earlier fence of mine", placeString(theControl, func(f *firstPart) string { return "f:" + f.mine.earlier[0] })},
		{"other's fence", placeString(theControl, literally("f:TOKEN"))},
		{"my fence, long", placeHash(theControl, func(f *firstPart) []any { return []any{"t:" + f.mine.own, soon()} })},
		{"both, dirty", placeHash(theControl, func(f *firstPart) []any { return []any{"t:" + f.mine.own, soon(), "t:TOKEN", soon(), "dirty", "1"} })},
		{"my fence, floor", placeHash(theControl, func(f *firstPart) []any { return []any{"t:" + f.mine.own, soon(), "floor", version(10)} })},
		{"mine and a dead one", placeHash(theControl, func(f *firstPart) []any { return []any{"t:" + f.mine.own, soon(), "t:TOKEN", "1"} })},
		{"a dead one", placeHash(theControl, func(f *firstPart) []any { return []any{"t:TOKEN", "1"} })},
	}
)

// calls are all that have a first part, with the token or nonce of the case.
func (f *firstPart) calls() map[string]*call {
	var nonce string
	fence := fenceCall(f.names, new(tokens), time.Minute)
	fence.args[0] = "NEW"
	lease := leaseCall(f.names, &nonce, time.Minute, Wanted{Format: f.format, Schema: testSchema}, 0)
	lease.args[0] = "NEW"
	return map[string]*call{
		"fence": fence, "apply": applyCall(f.names, &f.mine, f.value), "apply none": applyCall(f.names, &f.mine, none),
		"abort": abortCall(f.names, &f.mine), "lease": lease, "fill": fillCall(f.names, f.nonce, f.old),
		"invalidate": invalidateCall(f.names, ""), "invalidate 10": invalidateCall(f.names, version(10)), "barrier": barrierCall(f.names),
	}
}

// A first part is there for speed. Where it did anything else than the rest would, what a reader gets would depend on which
// of the two a script goes through.
func TestFirstPartsDoWhatTheRestDoes(t *testing.T) {
	c := newTestClient(t, dial(t, testenv.RealRedis(t)), Options{})
	prefix := testenv.KeyPrefix(t)
	bodies := map[*script]string{
		fenceScript: fenceLua, applyScript: applyLua, abortScript: abortLua, leaseScript: leaseLua, fillScript: fillLua,
		invalidateScript: invalidateLua, barrierScript: barrierLua,
	}
	rests := map[*script]string{}
	for s, body := range bodies {
		_, rest, there := strings.Cut(body, preludeMark)
		if !there {
			t.Fatalf("a script has no first part: %s", body)
		}
		rests[s] = headLua + "\n" + preludeLua + "\n" + rest
	}
	ran := 0
	for _, format := range allFormats {
		f := &firstPart{format: format, mine: tokens{own: "MINE", earlier: []string{"EARLIER"}}, nonce: "MYNONCE"}
		f.names, _ = siblingsOf(fmt.Sprintf("%s%s", prefix, format))
		var err, err2 error
		f.value, err = entry(format, `{"n":5}`, 5).encode(version(5))
		f.old, err2 = entry(format, `{"n":0}`, 0).encode(fillVersion)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		for name, k := range f.calls() {
			whole, alone := k.command(true), k.command(true)
			alone[1] = rests[k.script]
			for _, key := range placedValues {
				for _, meta := range placedMetas {
					for _, pointer := range placedPointers {
						for _, control := range placedControls {
							if pointer.name == "ours" && control.name != "none" && control.name != "a dead one" {
								continue // fences and leases have deleted it, and nobody stores while they stand
							}
							put := func(p redis.Pipeliner) {
								for _, one := range []placed{key, meta, pointer, control} {
									one.put(p, f)
								}
							}
							ran++
							if got, want := outcomeOf(t, c.rdb, f.names, put, whole), outcomeOf(t, c.rdb, f.names, put, alone); got != want {
								t.Errorf("%s, %s: key %s, meta %s, pointer %s, control key %s: the first part leaves\n%s\nthe rest\n%s",
									format, name, key.name, meta.name, pointer.name, control.name, got, want)
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d cases", ran)
}

// outcomeOf runs a command on what put has put there, and spells the answer and all that is left.
func outcomeOf(t *testing.T, rdb redis.UniversalClient, names siblings, put func(redis.Pipeliner), command []any) string {
	t.Helper()
	ctx := t.Context()
	all := []string{names.key, names.control, names.meta, names.pointer, names.version(version(5)), names.fill("MYNONCE")}
	pipe := rdb.TxPipeline()
	pipe.Del(ctx, all...)
	put(pipe)
	answer := pipe.Do(ctx, command...)
	var kinds []*redis.StatusCmd
	var texts []*redis.StringCmd
	var fields []*redis.MapStringStringCmd
	var lives []*redis.DurationCmd
	for _, name := range all {
		kinds, lives = append(kinds, pipe.Type(ctx, name)), append(lives, pipe.PTTL(ctx, name))
		texts, fields = append(texts, pipe.Get(ctx, name)), append(fields, pipe.HGetAll(ctx, name))
	}
	_, _ = pipe.Exec(ctx) // of the wrong kinds there are errors
	var b strings.Builder
	fmt.Fprintln(&b, answer.Val(), answer.Err() != nil)
	for i, name := range all {
		if kinds[i].Val() == "none" {
			continue
		}
		// Instants differ by how long the two took.
		left := instants.ReplaceAllString(texts[i].Val(), "$1*$3")
		fmt.Fprintf(&b, "%s %s %s", strings.TrimPrefix(name, names.key), kinds[i].Val(), left)
		fmt.Fprintf(&b, " %v lives %v\n", spelled(fields[i].Val()), lives[i].Val().Round(10*time.Second))
	}
	return b.String()
}

// spelled are a hash's fields without instants. Printing a map sorts it.
func spelled(fields map[string]string) map[string]string {
	for name, v := range fields {
		fields[name] = instants.ReplaceAllString(v, "$1*$3")
	}
	return fields
}
