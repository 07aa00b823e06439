package cachesync

import (
	"context"
	"errors"
)

// Result says what became of a fence's keys when it was applied.
type Result struct {
	// Stored keys hold their payload. Held keys wait for other writers;
	// Dropped and Lost keys are absent.
	Stored, Held, Dropped, Lost int
	// Owed keys could not be applied for certain. They are invalidated in the
	// background until that is acknowledged.
	Owed []string
}

// Apply ends the fence after a definite COMMIT. Each fenced key gets its entry;
// a key without an entry, or whose entry is invalid, becomes absent. The
// caller's commit must not be reported as done before Apply has returned. It
// does not stop when the context ends, and takes at most Options.Deadline for
// each 500 keys. What could not be applied is owed: it is in Result, in Stats
// and reported to Logger and OnError.
func (f *Fence) Apply(ctx context.Context, entries map[string]Entry) Result {
	var result Result
	if !f.end() {
		return result
	}
	ctx = context.WithoutCancel(ctx)
	calls := make([]*call, len(f.held))
	for i, h := range f.held {
		calls[i] = applyCall(h.names, &h.tokens, f.payload(h, entries))
	}
	f.c.run(ctx, calls...)
	var failure error
	for i, k := range calls {
		answer, err := k.answer()
		if err != nil {
			failure = err
			result.Owed = append(result.Owed, f.held[i].names.key)
			f.c.owe(f.held[i].names, f.held[i].tokens)
			continue
		}
		f.c.tally(answer, &result)
	}
	if failure != nil {
		f.c.report("entries of a committed write are owed", &KeysError{Op: "apply", Keys: result.Owed, Err: failure})
	}
	f.oweUnfenced(entries, &result)
	return result
}

// payload is what a key gets: nothing where the fence was not continuous.
func (f *Fence) payload(h *heldKey, entries map[string]Entry) encoded {
	entry, ok := entries[h.names.key]
	if !ok || h.bare || len(entry.Payload) == 0 || !f.c.kept(h.from) {
		return none
	}
	return f.c.encode(h.names.key, entry)
}

// encode gives an invalid entry no payload, which is always safe, and reports
// it.
func (c *Client) encode(key string, entry Entry) encoded {
	version, err := normalVersion(entry.Version)
	if err == nil {
		var e encoded
		if e, err = entry.encode(version); err == nil {
			return e
		}
	}
	c.stats.InvalidEntries.Add(1)
	c.report("an entry could not be encoded", &KeysError{Op: "encode", Keys: []string{key}, Err: err})
	return none
}

func (c *Client) tally(answer string, result *Result) {
	switch answer {
	case "stored":
		result.Stored++
		c.stats.Stored.Add(1)
	case "held":
		result.Held++
		c.stats.Held.Add(1)
	case "dropped":
		result.Dropped++
		c.stats.Dropped.Add(1)
	default:
		result.Lost++
		c.stats.Lost.Add(1)
	}
}

// oweUnfenced makes keys absent that were written without a fence: a mistake
// of the caller that must not leave a stale entry.
func (f *Fence) oweUnfenced(entries map[string]Entry, result *Result) {
	if len(entries) == 0 {
		return
	}
	held := make(map[string]bool, len(f.held))
	for _, h := range f.held {
		held[h.names.key] = true
	}
	var strangers []string
	for key := range entries {
		if names, ok := siblingsOf(key); ok && !held[key] {
			strangers = append(strangers, key)
			f.c.owe(names, tokens{})
		}
	}
	if len(strangers) == 0 {
		return
	}
	result.Owed = append(result.Owed, strangers...)
	f.c.stats.UnfencedApplies.Add(int64(len(strangers)))
	f.c.report("a written key was not fenced", &KeysError{Op: "apply", Keys: strangers, Err: ErrUnfenced})
}

// Invalidate makes keys absent for somebody who holds no fence. A value whose
// version is not older than the given one stays; the empty version spares
// nothing. It may be called only when the change is visible to new snapshots
// of the primary. On error it is a *KeysError with the keys that may be
// untouched, or wraps ErrEntry.
func (c *Client) Invalidate(ctx context.Context, keys []string, version string) error {
	if version != "" {
		var err error
		if version, err = normalVersion(version); err != nil {
			return err
		}
	}
	_, err := c.invalidate(ctx, keys, version, 0)
	return err
}

// InvalidateOrOwe makes keys of a committed write absent that no fence covers:
// Invalidate, which spares nothing. What is not acknowledged is owed, as in Apply,
// and reported. It does not stop when the context ends.
func (c *Client) InvalidateOrOwe(ctx context.Context, keys []string) {
	_, err := c.invalidate(context.WithoutCancel(ctx), keys, "", 0)
	if failed, ok := errors.AsType[*KeysError](err); ok {
		c.Owe(failed.Keys)
		c.report("keys of a committed write are owed", failed)
	}
}

// invalidate returns how many keys held anything. So many replicas must have what it did.
func (c *Client) invalidate(ctx context.Context, keys []string, version string, replicas int) (met int, err error) {
	calls := make([]*call, 0, len(keys))
	for _, key := range keys {
		if names, ok := siblingsOf(key); ok {
			k := invalidateCall(names, version)
			k.replicas = replicas
			calls = append(calls, k)
		} else {
			c.stats.Uncacheable.Add(1)
		}
	}
	c.run(ctx, calls...)
	var failed []string
	var failure error
	for _, k := range calls {
		switch answer, err := k.answer(); {
		case err != nil:
			failed, failure = append(failed, k.names.key), err
		case answer != "absent":
			met++
		}
	}
	c.stats.Invalidations.Add(int64(len(calls) - len(failed)))
	if failure != nil {
		return met, &KeysError{Op: "invalidate", Keys: failed, Err: failure}
	}
	return met, nil
}
