package cachesync

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	// ErrUnavailable is wrapped by every error that means "Redis did not do it":
	// unreachable, too slow, breaker open, or the command was refused. A
	// caller's own cancelled context is not one of them.
	ErrUnavailable = errors.New("wtcache: redis is unavailable")

	// ErrReplicas is wrapped by the error of a fence that too few replicas have acknowledged.
	ErrReplicas error = replicasError{}

	// ErrClosed is returned by Fence after Close.
	ErrClosed = errors.New("wtcache: cachesync client is closed")

	// ErrEntry is wrapped by errors about an Entry or a version that cannot be
	// stored: it is a mistake of the program, not of Redis.
	ErrEntry = errors.New("wtcache: invalid cache entry")

	// ErrUnfenced is reported when Apply is given an entry of a key that its
	// fence does not hold. The key is made absent.
	ErrUnfenced = errors.New("wtcache: entry of a key that was not fenced")

	// ErrForeign is reported when a reader meets a key that is in use for
	// something else.
	ErrForeign = errors.New("wtcache: key holds what is no entry")

	// ErrDebtsLost is reported by Close when invalidations were still owed.
	ErrDebtsLost = errors.New("wtcache: owed invalidations were lost")
)

// replicasError is one that counts as a reply: the server answers.
type replicasError struct{}

func (replicasError) Error() string {
	return "wtcache: too few replicas have acknowledged a fence (wait_replicas)"
}
func (replicasError) RedisError() {}

// FenceError says which keys could not be fenced. Nothing may be committed
// under the protocol after it. Tokens that may have got through stay on their
// keys, which keeps the keys out of use, until they expire: that is the safe
// end for a caller who commits all the same. A caller who does not commit
// should call Abort.
type FenceError struct {
	// Fenced keys were acknowledged; Failed keys were not, though their
	// request may have got through.
	Fenced, Failed []string
	// Err wraps ErrUnavailable, or the caller's context error.
	Err error

	fence *Fence
}

// Error names the number of keys and the first that failed.
func (e *FenceError) Error() string {
	return fmt.Sprintf("fence %d of %d keys (first %q): %v",
		len(e.Failed), len(e.Failed)+len(e.Fenced), e.Failed[0], e.Err)
}

// Unwrap gives Err.
func (e *FenceError) Unwrap() error { return e.Err }

// Abort releases the tokens that may have got through. It may be called only
// when the transaction was rolled back for certain, or never sent.
func (e *FenceError) Abort(ctx context.Context) {
	if e.fence != nil {
		e.fence.Abort(ctx)
	}
}

// KeysError says which keys an operation could not reach. It wraps
// ErrUnavailable or the caller's context error.
type KeysError struct {
	Op   string
	Keys []string
	Err  error
}

// Error names the operation, the number of keys and the first.
func (e *KeysError) Error() string {
	return fmt.Sprintf("%s %d keys (first %q): %v", e.Op, len(e.Keys), e.Keys[0], e.Err)
}

// Unwrap gives Err.
func (e *KeysError) Unwrap() error { return e.Err }

// explain turns the error of a request into one for the caller: the caller's
// own context error where that was the cause, else one that wraps
// ErrUnavailable.
func explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := callerGone(ctx); cause != nil {
		return fmt.Errorf("call redis: %w", cause)
	}
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// callerGone gives the error of a context that has ended. A socket's deadline,
// taken from the context's, can pass a moment before the context notices.
func callerGone(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
		return context.DeadlineExceeded
	}
	return nil
}

// isReply says whether the error is an answer of the server, which then is
// alive, rather than a failure to get one.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// isOutage says whether an error counts against a server's breaker. A server
// that loads its data or lost its master answers, but does nothing. One that
// answers CLUSTERDOWN lives, and may serve other slots.
func isOutage(err error) bool {
	if err == nil {
		return false
	}
	if !isReply(err) {
		return true
	}
	return redis.HasErrorPrefix(err, "LOADING") || redis.HasErrorPrefix(err, "MASTERDOWN")
}

// isMoving says that the keys of a call lie on two servers just now, or on another one than
// it was sent to and nobody has followed the redirect.
func isMoving(err error) bool {
	return err != nil && (redis.HasErrorPrefix(err, "TRYAGAIN") || redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "ASK"))
}

func isNoScript(err error) bool {
	return err != nil && (errors.Is(err, redis.ErrNoScript) || redis.HasErrorPrefix(err, "NOSCRIPT"))
}
