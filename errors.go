package wtcache

import (
	"errors"
	"fmt"
	"strings"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/outbox"
)

// Errors that a caller may want to tell apart, by the phase in which they arise.
//
// Before COMMIT a write may fail with one of them, and then nothing was
// committed. After COMMIT no error of the cache is ever returned: it goes to
// Config.Logger, to Config.OnError and to Stats.
var (
	// ErrConfig is wrapped by every error about the DSN, the environment or a Config.
	ErrConfig = errors.New("wtcache: configuration")
	// ErrRules is wrapped by every error about rule files, whether they cannot be
	// read or do not fit the live catalogue.
	ErrRules = errors.New("wtcache: rules")
	// ErrRefused is wrapped by *RefusedError: a rule with `redis_down: refuse` kept
	// a write from being committed.
	ErrRefused = errors.New("wtcache: write refused")
	// ErrNotCapturable is wrapped by the error for a write that can neither be
	// captured nor made up for, such as PREPARE TRANSACTION after ruled writes.
	ErrNotCapturable = errors.New("wtcache: write cannot be captured")
	// ErrPrivilege is wrapped by the error for a role that may write a ruled table
	// but not SELECT from it. Its text holds the GRANT that mends it.
	ErrPrivilege = errors.New("wtcache: missing privilege")
	// ErrUnknownEntry is wrapped by the error of a read that names no rule or entry.
	ErrUnknownEntry = errors.New("wtcache: no such entry")
	// ErrKey is wrapped by the error of a read whose key values do not fit the entry's key.
	ErrKey = errors.New("wtcache: key does not fit")
	// ErrOutbox is wrapped by the error for an outbox that is missing or that the role may
	// not use. Its text holds the statements that mend it.
	ErrOutbox = outbox.ErrMissing
	// ErrBaseDriver is wrapped by the error for a base driver that lacks an
	// interface which capturing needs.
	ErrBaseDriver = errors.New("wtcache: base driver")
	// ErrUnavailable is wrapped by errors about a Redis that did not answer in time.
	ErrUnavailable = cachesync.ErrUnavailable
)

// RefusedError says that a transaction was rolled back because Redis could not be fenced,
// and a rule says `redis_down: refuse`, or the outbox could not be written either.
// Nothing was committed, so the caller may try again.
type RefusedError struct {
	Rules  []string // the tables whose rules refuse, or whose keys could not be queued
	Err    error    // why Redis could not be fenced
	Outbox error    // why the outbox could not be written; nil where a rule refuses
}

func (e *RefusedError) Error() string {
	tables := strings.Join(e.Rules, ", ")
	if e.Outbox != nil {
		return fmt.Sprintf("%v: Redis could not be fenced before COMMIT, and what the write of %s owes to it could not be put into the outbox; nothing was committed, try again: %v (Redis: %v)",
			ErrRefused, tables, e.Outbox, e.Err)
	}
	return fmt.Sprintf("%v: Redis could not be fenced before COMMIT and the rule of %s says redis_down: refuse; nothing was committed, try again when Redis answers: %v",
		ErrRefused, tables, e.Err)
}

// Unwrap lets errors.Is find ErrRefused and the reasons.
func (e *RefusedError) Unwrap() []error {
	reasons := []error{ErrRefused, e.Err}
	if e.Outbox != nil {
		reasons = append(reasons, e.Outbox)
	}
	return reasons
}
