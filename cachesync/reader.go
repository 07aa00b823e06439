package cachesync

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Wanted says what a reader understands, and how old it takes it.
type Wanted struct {
	Format Format
	// Schema is the fingerprint of the payload's shape, 8 hex digits. A value of
	// another schema or format, and a damaged one, count as absent.
	Schema string
	// TTL is the longest life that such an entry is ever given. What is older has
	// outlived it by somebody's doing, is counted and counts as absent; 0 means
	// that this is not known.
	TTL time.Duration
	// NegativeTTL is the same for an entry whose payload is NegativePayload.
	NegativeTTL time.Duration
	// MaxAge is the greatest age that the reader takes: an older value counts as
	// absent. 0 means any.
	MaxAge time.Duration
}

// NegativePayload says that there is no such row.
const NegativePayload = "null"

// oldest is the age above which any value counts as absent, 0 for none.
func (w Wanted) oldest() time.Duration {
	life := max(w.TTL, w.NegativeTTL)
	if w.MaxAge > 0 && (life == 0 || w.MaxAge < life) {
		return w.MaxAge
	}
	return life
}

// life is the longest life of a value with the payload, 0 for not known.
func (w Wanted) life(payload []byte) time.Duration {
	if string(payload) == NegativePayload {
		return w.NegativeTTL
	}
	return w.TTL
}

// Found is what a reader found under a key.
type Found struct {
	Value Value
	Hit   bool
	// Age is the time since the value was stored, by the Redis server's clock to
	// within half a round trip; never negative.
	Age time.Duration
	// Err wraps ErrUnavailable or the caller's context error. The reader then
	// reads the database and does not fill.
	Err error
}

// LeaseState says what a reader that asked for a lease may do.
type LeaseState int

const (
	// LeaseBypass: read the primary and do not fill. It is the zero value.
	LeaseBypass LeaseState = iota
	// LeaseTaken: another reader is about to fill the key. Ask again after a
	// while, or read the primary and do not fill.
	LeaseTaken
	// LeaseValue: the value is there.
	LeaseValue
	// LeaseGranted: read the primary, in a snapshot taken only now, and Fill.
	LeaseGranted
)

// LeaseResult is the answer to a reader that met an absent key. With
// LeaseGranted it is that reader's bounded right to fill the key, once.
type LeaseResult struct {
	State LeaseState
	Value Value         // for LeaseValue
	Age   time.Duration // of Value, as in Found
	// Err is as Found's; State is LeaseBypass then.
	Err error

	names siblings
	nonce string
	from  answerer // whose lease it is
}

// Get reads a key in one round trip: a GET (Plain: two in one pipeline; Hash: an
// HMGET; Versioned: a script that writes nothing, since what the pointer names
// is not known before). An error is as Found's.
func (c *Client) Get(ctx context.Context, key string, format Format, schema string) (Value, bool, error) {
	f := c.Look(ctx, key, Wanted{Format: format, Schema: schema})
	return f.Value, f.Hit, f.Err
}

// Lease asks for the right to fill a key that Get found absent. The database
// snapshot must be taken after it returned LeaseGranted, and not inside a
// transaction that has written. A value of another schema or format is removed
// to make room. An error is as Found's.
func (c *Client) Lease(ctx context.Context, key string, format Format, schema string) (LeaseResult, error) {
	l := c.Leases(ctx, []string{key}, Wanted{Format: format, Schema: schema})[0]
	return l, l.Err
}

// Leases is Lease for several keys, in one pipeline to each server. A value that
// is too old is removed to make room, as one of another schema is. The results
// are in the keys' order.
func (c *Client) Leases(ctx context.Context, keys []string, w Wanted) []LeaseResult {
	w.Schema = strings.ToLower(w.Schema)
	results, damaged := c.leases(ctx, keys, w)
	if len(damaged) == 0 {
		return results
	}
	// A damaged value would be in every reader's way until its end.
	again := make([]string, len(damaged))
	for i, at := range damaged {
		again[i] = keys[at]
	}
	_, err := c.invalidate(ctx, again, "", 0)
	second, _ := c.leases(ctx, again, w)
	for i, at := range damaged {
		if results[at] = second[i]; err != nil && second[i].Err == nil {
			c.Release(ctx, second[i])
			results[at] = LeaseResult{Err: err}
		}
	}
	return results
}

// leases gives also the places of the keys whose value is damaged.
func (c *Client) leases(ctx context.Context, keys []string, w Wanted) (results []LeaseResult, damaged []int) {
	results = make([]LeaseResult, len(keys))
	calls, at := make([]*call, 0, len(keys)), make([]int, 0, len(keys))
	var unused []LeaseResult
	for i, key := range keys {
		names, ok := siblingsOf(key)
		if !ok {
			c.stats.Uncacheable.Add(1)
			continue
		}
		results[i].names = names
		known := c.expected(ctx, names)
		if known.quarantined() {
			c.stats.Quarantined.Add(1)
			continue
		}
		calls, at = append(calls, leaseCall(names, &results[i].nonce, c.o.LeaseLife, w, known.oldest())), append(at, i)
	}
	trusted := c.trust.now()
	c.run(ctx, calls...)
	for j, k := range calls {
		result := &results[at[j]]
		if k.err == nil {
			k.err = c.mistrust(trusted, k.answerer)
		}
		if k.err == nil && k.known.quarantined() {
			c.stats.Quarantined.Add(1)
			unused = append(unused, LeaseResult{names: result.names, nonce: result.nonce})
			result.nonce = ""
			continue
		}
		if c.granted(ctx, k, w, result); result.State == leaseDamaged {
			result.State = LeaseBypass
			damaged = append(damaged, at[j])
		}
	}
	if len(unused) > 0 {
		c.Release(ctx, unused...)
	}
	return results, damaged
}

// expected is what is known of the server that a key's request will go to, nil for nothing.
func (c *Client) expected(ctx context.Context, names siblings) *incarnation {
	if !c.peers.met.Load() {
		return nil // nor may a Cluster's client know any, and have to look for one
	}
	server := ""
	switch r := c.rdb.(type) {
	case *redis.ClusterClient:
		node, err := r.MasterForKey(ctx, names.control)
		if err != nil {
			return nil
		}
		server = node.Options().Addr
	default:
		server = serverOf(c.rdb)
	}
	return c.peers.of(server).now.Load()
}

// leaseDamaged is a lease's answer that holds a value of no use.
const leaseDamaged LeaseState = -1

// granted reads the answer of one lease call into its result.
func (c *Client) granted(ctx context.Context, k *call, w Wanted, result *LeaseResult) {
	nonce := result.nonce
	result.nonce = ""
	texts, err := k.texts()
	if err == nil && len(texts) == 0 {
		err = errors.New("decode script answer: got an empty list")
	}
	if err != nil {
		result.Err = err
		return
	}
	switch texts[0] {
	case "value":
		w.MaxAge = 0 // the script has judged it, with the very clock that counts
		found := c.judge(ctx, result.names, texts[1:], k.answerer, w)
		if !found.Hit {
			result.State = leaseDamaged
			return
		}
		result.State, result.Value, result.Age = LeaseValue, found.Value, found.Age
		return
	case "granted":
		c.stats.LeasesGranted.Add(1)
		result.State, result.nonce, result.from = LeaseGranted, nonce, k.answerer
		return
	case "foreign":
		c.foreign(result.names)
	case "bypass":
		if len(texts) > 1 && texts[1] == "lease" {
			result.State = LeaseTaken
		}
	}
	c.stats.LeasesBypassed.Add(1)
}

// foreign counts a key that is in use for something else, and reports the first.
func (c *Client) foreign(names siblings) {
	c.stats.ForeignKeys.Add(1)
	c.foreignSeen.Do(func() {
		c.report("a key of a rule is in use for something else, and is never filled until a write replaces that",
			&KeysError{Op: "lease", Keys: []string{names.key}, Err: ErrForeign})
	})
}

// Filling is what a reader read under a lease.
type Filling struct {
	Lease LeaseResult
	// Entry without a payload gives the lease back.
	Entry Entry
}

// Fill stores what a reader read under its lease, with version 0, and ends the
// lease. It reports false where the lease has ended meanwhile, which is no
// error. An entry without a payload gives the lease back. An error wraps
// ErrUnavailable, ErrEntry or the caller's context error.
func (c *Client) Fill(ctx context.Context, lease LeaseResult, entry Entry) (bool, error) {
	filled, err := c.Fills(ctx, []Filling{{lease, entry}})
	return filled[0], err
}

// Fills is Fill for several keys, in one pipeline to each server. It says of each
// whether it was stored, and gives one error of those that there were.
func (c *Client) Fills(ctx context.Context, fills []Filling) (filled []bool, err error) {
	filled = make([]bool, len(fills))
	var calls []*call
	var at []int
	for i, f := range fills {
		if f.Lease.nonce == "" {
			continue
		}
		e, wrong := f.Entry.encode(fillVersion)
		if !c.kept(f.Lease.from) {
			// The lease was one of a server that has lost data since.
			c.stats.Quarantined.Add(1)
			e.payload = nil
		}
		switch {
		case wrong != nil:
			err = wrong
		case len(e.payload) == 0:
			calls, at = append(calls, releaseCall(f.Lease.names, f.Lease.nonce)), append(at, i)
		default:
			calls, at = append(calls, fillCall(f.Lease.names, f.Lease.nonce, e)), append(at, i)
		}
	}
	c.run(ctx, calls...)
	for j, k := range calls {
		stored, wrong := k.number()
		switch {
		case k.script == releaseScript:
		case wrong != nil:
			err = wrong
		case stored == 0:
			c.stats.FillRefusals.Add(1)
		default:
			filled[at[j]] = true
			c.stats.Fills.Add(1)
		}
	}
	return filled, err
}

// Release gives unused leases back, so that the next reader need not wait for
// their end. Where that fails they expire by themselves.
func (c *Client) Release(ctx context.Context, leases ...LeaseResult) {
	var calls []*call
	for _, l := range leases {
		if l.nonce != "" {
			calls = append(calls, releaseCall(l.names, l.nonce))
		}
	}
	c.run(context.WithoutCancel(ctx), calls...)
}

// BarrierHeld says whether a coarse invalidation is under way behind this
// barrier. A reader asks after its lease was granted and before its snapshot,
// and does not fill if so, nor on error.
func (c *Client) BarrierHeld(ctx context.Context, barrier string) (bool, error) {
	names, ok := siblingsOf(barrier)
	if !ok {
		return true, nil // it cannot be fenced, so it cannot be trusted to be open
	}
	k := barrierCall(names)
	c.run(ctx, k)
	held, err := k.number()
	return held == 1 || err != nil, err
}
