package wtcache

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/wtcache/wtcache/cachesync"
)

// AuditEvery audits again and again until the context ends, and only then returns: give it a goroutine.
// done is called on that goroutine after each audit. Of all processes with the same rules and
// the same Redis one at a time audits, and about one an interval: who begins takes a
// name in Redis ("wtcache:audit:" and a number) for most of the interval, and the others
// leave it at that. Intervals differ by up to a tenth, so that processes do not meet.
func AuditEvery(ctx context.Context, db *sql.DB, every time.Duration, opts AuditOptions, done func(*AuditReport, error)) {
	c, err := CacheOf(db)
	if err == nil && every <= 0 {
		err = configErrorf("an audit every %v is none", every)
	}
	if err != nil {
		done(nil, err)
		return
	}
	name := "wtcache:audit:" + ruleMark(c.engine)
	pause := rand.N(every/10 + 1)
	for wait(ctx, pause) == nil {
		mine, err := c.engine.sync.Turn(ctx, name, turnOf(every))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			done(nil, err)
		case mine:
			done(auditTurn(ctx, db, name, every, opts, c.engine.sync))
		}
		pause = every - every/10 + rand.N(every/5+1)
	}
}

// turnOf is how long a turn lasts: less than the least pause, so that who had it can have it again.
func turnOf(every time.Duration) time.Duration { return every * 4 / 5 }

// auditTurn audits, and keeps the turn for as long as that takes.
func auditTurn(ctx context.Context, db *sql.DB, name string, every time.Duration, opts AuditOptions, sync *cachesync.Client) (*AuditReport, error) {
	over, end := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		for wait(over, turnOf(every)/2) == nil {
			_ = sync.Prolong(over, name, turnOf(every)) // without it two may audit at once, which harms nobody
		}
	}()
	defer func() { end(); <-kept }()
	return Audit(ctx, db, opts)
}

// ruleMark is the same for the same keys.
func ruleMark(e *engine) string {
	globs := ruleGlobs(e.rules)
	slices.Sort(globs)
	sum := sha256.Sum256([]byte(strings.Join(globs, "\x00")))
	return hex.EncodeToString(sum[:4])
}
