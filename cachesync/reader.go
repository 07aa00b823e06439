package cachesync

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// LeaseState says what a reader that asked for a lease may do.
type LeaseState int

const (
	// LeaseBypass: read the primary and do not fill. It is the zero value.
	LeaseBypass LeaseState = iota
	// LeaseValue: the value is there.
	LeaseValue
	// LeaseGranted: read the primary, in a snapshot taken only now, and Fill.
	LeaseGranted
)

// LeaseResult is the answer to a reader that met an absent key. With
// LeaseGranted it is that reader's bounded right to fill the key, once.
type LeaseResult struct {
	State LeaseState
	Value Value // for LeaseValue

	names siblings
	nonce string
}

// Get reads a key in one round trip: a GET (Plain: two in one pipeline; Hash: an
// HMGET; Versioned: a script that writes nothing, since what the pointer names
// is not known before). The schema is the one that the reader understands, 8 hex digits: a value of another schema or
// format, and a damaged one, count as absent. An error wraps ErrUnavailable or
// the caller's context error; the reader then reads the database and does not
// fill.
func (c *Client) Get(ctx context.Context, key string, format Format, schema string) (Value, bool, error) {
	names, ok := siblingsOf(key)
	if !ok {
		c.stats.Uncacheable.Add(1)
		return Value{}, false, nil
	}
	texts, err := c.fetch(ctx, names, format)
	if err != nil {
		return Value{}, false, err
	}
	if len(texts) == 0 {
		c.stats.Misses.Add(1)
		return Value{}, false, nil
	}
	value, found := decode(format, texts, schema)
	return value, c.judge(found), nil
}

// fetch gives the texts that decode takes, none where the key is absent. A key
// of another Redis type is absent, too.
func (c *Client) fetch(ctx context.Context, names siblings, format Format) (texts []string, err error) {
	if format == Versioned {
		k := followCall(names)
		c.run(ctx, k)
		return k.texts()
	}
	for _, r := range c.do(ctx, c.rdb, fetchCommands(ctx, names, format)) {
		switch val := r.val.(type) {
		case string:
			texts = append(texts, val)
		case []any:
			texts = fieldsOf(val)
		default:
			if r.err != nil && !errors.Is(r.err, redis.Nil) && !redis.HasErrorPrefix(r.err, "WRONGTYPE") {
				return nil, explain(ctx, r.err)
			}
			if len(texts) == 0 {
				return nil, nil // a plain header without its value
			}
		}
	}
	return texts, nil
}

func fetchCommands(ctx context.Context, names siblings, format Format) []redis.Cmder {
	if format == Hash {
		args := []any{"hmget", names.key}
		for _, field := range hashFields {
			args = append(args, field)
		}
		return []redis.Cmder{onceCmd{redis.NewCmd(ctx, args...)}}
	}
	cmds := []redis.Cmder{onceCmd{redis.NewCmd(ctx, "get", names.key)}}
	if format == Plain {
		cmds = append(cmds, onceCmd{redis.NewCmd(ctx, "get", names.meta)})
	}
	return cmds
}

// fieldsOf gives the fields of a hash, none unless all are there.
func fieldsOf(list []any) []string {
	texts := make([]string, len(list))
	for i, field := range list {
		text, ok := field.(string)
		if !ok {
			return nil
		}
		texts[i] = text
	}
	return texts
}

// judge counts what a reader found and says whether it is of use.
func (c *Client) judge(v verdict) bool {
	switch v {
	case valid:
		c.stats.Hits.Add(1)
		return true
	case otherSchema:
		c.stats.SchemaMismatches.Add(1)
	case damaged:
		c.stats.ChecksumMismatches.Add(1)
	}
	c.stats.Misses.Add(1)
	return false
}

// Lease asks for the right to fill a key that Get found absent. The database
// snapshot must be taken after it returned LeaseGranted, and not inside a
// transaction that has written. A value of another schema or format is removed
// to make room. On error the reader reads the database and does not fill.
func (c *Client) Lease(ctx context.Context, key string, format Format, schema string) (LeaseResult, error) {
	names, ok := siblingsOf(key)
	if !ok {
		c.stats.Uncacheable.Add(1)
		return LeaseResult{}, nil
	}
	schema = strings.ToLower(schema)
	result, damage, err := c.lease(ctx, names, format, schema)
	if err != nil || !damage {
		return result, err
	}
	// A damaged value would be in every reader's way until its end.
	if _, err := c.invalidate(ctx, []string{key}, ""); err != nil {
		return LeaseResult{}, err
	}
	result, _, err = c.lease(ctx, names, format, schema)
	return result, err
}

func (c *Client) lease(ctx context.Context, names siblings, format Format, schema string) (result LeaseResult, damage bool, err error) {
	var nonce string
	k := leaseCall(names, &nonce, c.o.LeaseLife, format, schema)
	c.run(ctx, k)
	texts, err := k.texts()
	if err != nil {
		return result, false, err
	}
	if len(texts) == 0 {
		return result, false, errors.New("decode script answer: got an empty list")
	}
	switch texts[0] {
	case "value":
		value, found := decode(format, texts[1:], schema)
		if c.judge(found) {
			return LeaseResult{State: LeaseValue, Value: value}, false, nil
		}
		return result, true, nil
	case "granted":
		c.stats.LeasesGranted.Add(1)
		return LeaseResult{State: LeaseGranted, names: names, nonce: nonce}, false, nil
	case "foreign":
		c.foreign(names)
	}
	c.stats.LeasesBypassed.Add(1)
	return result, false, nil
}

// foreign counts a key that is in use for something else, and reports the first.
func (c *Client) foreign(names siblings) {
	c.stats.ForeignKeys.Add(1)
	c.foreignSeen.Do(func() {
		c.report("a key of a rule is in use for something else, and is never filled until a write replaces that",
			&KeysError{Op: "lease", Keys: []string{names.key}, Err: ErrForeign})
	})
}

// Fill stores what a reader read under its lease, with version 0, and ends the
// lease. It reports false where the lease has ended meanwhile, which is no
// error. An entry without a payload gives the lease back. An error wraps
// ErrUnavailable, ErrEntry or the caller's context error.
func (c *Client) Fill(ctx context.Context, lease LeaseResult, entry Entry) (bool, error) {
	if lease.nonce == "" {
		return false, nil
	}
	e, err := entry.encode(fillVersion)
	if err != nil {
		return false, err
	}
	if len(e.payload) == 0 {
		c.Release(ctx, lease)
		return false, nil
	}
	k := fillCall(lease.names, lease.nonce, e)
	c.run(ctx, k)
	stored, err := k.number()
	switch {
	case err != nil:
		return false, err
	case stored == 0:
		c.stats.FillRefusals.Add(1)
		return false, nil
	}
	c.stats.Fills.Add(1)
	return true, nil
}

// Release gives an unused lease back, so that the next reader need not wait
// for its end. Where that fails the lease expires by itself.
func (c *Client) Release(ctx context.Context, lease LeaseResult) {
	if lease.nonce != "" {
		c.run(context.WithoutCancel(ctx), releaseCall(lease.names, lease.nonce))
	}
}

// BarrierHeld says whether a coarse invalidation is under way behind this
// barrier. A reader asks after its lease was granted and does not fill if so,
// nor on error.
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
