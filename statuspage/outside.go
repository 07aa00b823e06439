package statuspage

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/wtcache/wtcache"
)

// NewOutside makes the page of a set-up as it is seen from outside its programs, which is what `wtcache status --listen` serves: the outbox,
// Redis, the rules, and what Check finds. Each look asks Postgres and Redis, as wtcache.Status does, so that Options.Every is 10 s
// where it is 0. base stays the caller's.
func NewOutside(base driver.Connector, cfg wtcache.Config, opts Options) *Page {
	if opts.Every == 0 {
		opts.Every = outsideEvery
	}
	return newPage(&outside{base: base, cfg: cfg, turn: make(chan struct{}, 1), every: opts.Every}, opts)
}

const outsideEvery = 2 * DefaultEvery

// outside asks the servers, no more often than once in half a period, however many look at the page.
type outside struct {
	base  driver.Connector
	cfg   wtcache.Config
	every time.Duration

	turn   chan struct{} // holds a token while somebody looks; guards the rest
	last   view
	lastAt time.Time
}

func (o *outside) look(ctx context.Context) (view, error) {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return view{}, ctx.Err()
	}
	if !o.lastAt.IsZero() && time.Since(o.lastAt) < o.every/2 {
		return o.last, nil
	}
	r, err := wtcache.Status(ctx, o.base, o.cfg)
	if err != nil {
		return view{}, err
	}
	o.last, o.lastAt = view{rules: r.Rules, outside: r}, time.Now()
	return o.last, nil
}

func (o *outside) explain(ctx context.Context, text string) ([]wtcache.Explanation, error) {
	x, err := wtcache.NewExplainer(ctx, o.base, o.cfg)
	if err != nil {
		return nil, err
	}
	return x.Explain(text)
}
