package cachesync

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/epoch.lua
var epochLua string

var epochScript = newBareScript(epochLua)

// Registry is the key of the hash in which it is noted since when each server is known as
// what it is now: a field for each identity ("run_id:master_replid") and for each source of
// rows ("postgres:SYSTEM:TIMELINE"); it lies in database 0, where the user may SELECT that. A
// value is the time in milliseconds by the server's clock, 0 for always. Field "clock" is the
// latest time at which somebody has asked. It has no life, and at most 64 fields. In a Cluster
// each server has its own, whose name goes on with ":{N}": the least number N whose slot the
// server has.
const Registry = "wtcache:epochs"

const (
	// Who answers is asked anew beside the requests after the first of these, and before a
	// request after the second: a replica becomes a master without a new connection.
	identityFresh = time.Second
	identityHolds = 10 * time.Second
)

// incarnation is a server between two losses of its data. It is immutable; a peer whose
// incarnation is another one after an answer than before the request was, may have
// answered as either.
type incarnation struct {
	who identity
	was string // an earlier identity of the same data

	// noted: the registry has been asked, so that the fields below hold. They never fall.
	noted  bool
	origin *origin // that the registry was asked for
	since  int64   // that the registry told
	floor  int64   // what was written before, in ms by the server's clock, is not trusted
	until  int64   // by steady: end of the quarantine
	met    int64   // by steady: when it was noticed
	first  bool    // no other was known before

	// deaf: it cannot be learned who answers, so that no loss of data is noticed.
	deaf bool
}

// origin is the database that rows come from.
type origin struct{ system, timeline string }

// anybody is who answers where nothing is noticed.
var anybody = &incarnation{noted: true, deaf: true}

// quarantined says whether commits may be under way whose fences an earlier incarnation had.
func (i *incarnation) quarantined() bool { return i != nil && i.until > 0 && steady() < i.until }

// oldest is the time of writing below which nothing is trusted, in ms by the server's clock.
func (i *incarnation) oldest() int64 {
	if i == nil {
		return 0
	}
	return i.floor
}

// notice takes in who answers on a connection. An answer to what was sent before is not
// used any more, unless nothing is new.
func (p *peer) notice(who identity) {
	for {
		old := p.now.Load()
		if old != nil && !old.deaf && old.who.is(who) {
			return
		}
		next := &incarnation{who: who, met: steady(), first: old == nil}
		if old != nil {
			next.floor, next.until = old.floor, old.until
			if !old.deaf && who.continues(old.who) {
				next.was = old.who.String()
			}
		}
		if p.now.CompareAndSwap(old, next) {
			p.clock.measured.Store(0) // it may be another machine
			return
		}
	}
}

// deafen notes that it cannot be learned who answers.
func (p *peer) deafen(why error) {
	for {
		old := p.now.Load()
		if old != nil && old.deaf {
			return
		}
		next := &incarnation{deaf: true, noted: true, met: steady()}
		if old != nil {
			next.floor, next.until = old.floor, old.until
		}
		if p.now.CompareAndSwap(old, next) {
			return
		}
	}
}

// forget is for a connection of which it is not known yet who answers on it.
func (p *peer) forget() {
	if old := p.now.Load(); old != nil && old.noted {
		next := &incarnation{floor: old.floor, until: old.until, met: steady()}
		p.now.CompareAndSwap(old, next) // else it is news by itself
	}
}

// still gives who answered: the incarnation that is known now, unless it is another one than
// before the request, or nothing is known of it. Then the answer is of no use.
func (s *peers) still(p *peer, before *incarnation) *incarnation {
	if s.off {
		return anybody
	}
	if now := p.now.Load(); s.usable(now) && now.same(before) {
		return now
	}
	return nil
}

// same says whether no loss was noticed in between.
func (i *incarnation) same(before *incarnation) bool {
	return i == before || i != nil && before != nil && i.deaf == before.deaf && i.who.is(before.who)
}

// kept says whether the server that gave an answer has lost nothing since.
func (c *Client) kept(from answerer) bool {
	return c.peers.off || from.known != nil && from.peer.now.Load().same(from.known)
}

// usable says whether an incarnation's answers can be judged.
func (s *peers) usable(i *incarnation) bool {
	return i != nil && i.noted && (i.deaf || i.origin == s.origin.Load())
}

// know finds out who answers, before a request is sent to it. What it gives is not usable
// where that is not known: the request may be sent all the same. The error is of an outage.
func (c *Client) know(ctx context.Context, rdb redis.UniversalClient, p *peer) (*incarnation, error) {
	now := p.now.Load()
	age := steady() - p.checked.Load()
	switch {
	case c.peers.off:
		return anybody, nil
	case now != nil && now.deaf:
		return now, nil // a new connection may hear more
	case !c.peers.usable(now) || age > int64(identityHolds):
		err := c.learn(ctx, rdb, p)
		return p.now.Load(), err
	case age > int64(identityFresh) && p.looking.CompareAndSwap(false, true):
		c.relearn(rdb, p)
	}
	return now, nil
}

// relearn asks beside the readers.
func (c *Client) relearn(rdb redis.UniversalClient, p *peer) {
	if !c.begin() {
		return
	}
	go func() {
		defer c.background.Done()
		defer p.looking.Store(false)
		ctx, cancel := context.WithTimeout(c.ctx, c.o.Deadline)
		defer cancel()
		_ = c.learn(ctx, rdb, p) // a failure is the next request's to meet
	}()
}

// learn asks the server who it is, and its registry since when. One at a time asks.
func (c *Client) learn(ctx context.Context, rdb redis.UniversalClient, p *peer) error {
	began := steady()
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.checked.Load() >= began && c.peers.usable(p.now.Load()) {
		return nil // somebody has, meanwhile
	}
	ask := func(ctx context.Context, cmd redis.Cmder) error { return c.pose(ctx, rdb, cmd) }
	sent := steady()
	who, err := whoAnswers(ctx, ask)
	switch {
	case err == nil:
		p.notice(who)
	case isSilence(err):
		c.deaf(p, err)
		p.checked.Store(sent)
		return nil
	default:
		return outage(err)
	}
	now := p.now.Load()
	if now.deaf || !now.who.master {
		return nil // a replica's answers are not used, and may be another one's soon
	}
	err = c.note(ctx, rdb, p, now, ask)
	if err == nil {
		p.checked.Store(sent)
	}
	return outage(err)
}

// pose asks one server one thing, by the end of ctx.
func (c *Client) pose(ctx context.Context, rdb redis.UniversalClient, cmd redis.Cmder) error {
	if r := c.exchange(ctx, rdb, []redis.Cmder{cmd}, 0)[0]; r.err != nil {
		return r.err
	}
	return nil
}

// outage leaves an error out that says nothing about whether the server answers.
func outage(err error) error {
	if isOutage(err) {
		return err
	}
	return nil
}

// deaf notes, and says once, that a server does not say who it is.
func (c *Client) deaf(p *peer, why error) {
	p.deafen(why)
	c.deafSeen.Do(func() {
		c.o.Logger.Warn("redis does not tell who it is: that it began anew, or lost writes in a failover, goes unnoticed until entries' ttl has passed",
			"error", why, "needs", "the commands INFO, EVAL, TIME, HGET, HSET, HKEYS, HLEN, HGETALL and HDEL, and the key "+Registry+"*")
	})
}

// note has the registry say since when an incarnation is known.
func (c *Client) note(ctx context.Context, rdb redis.UniversalClient, p *peer, now *incarnation, ask asking) error {
	registry, ok := c.registryOf(ctx, rdb)
	if !ok {
		lookAround(c.rdb)
		return nil
	}
	o := c.peers.origin.Load()
	source := origin{timeline: "0"}
	if o != nil {
		source = *o
	}
	cmd := redis.NewCmd(ctx, "eval", epochScript.source, 1, registry, now.who.String(), now.was,
		source.system, source.timeline, c.o.LeaseLife.Milliseconds(), now.who.aloneMillis())
	if err := ask(ctx, onceCmd{cmd}); err != nil {
		if isSilence(err) {
			c.deaf(p, err)
			return nil
		}
		return err
	}
	times, err := epochTimes(cmd)
	if err != nil {
		c.deaf(p, err)
		return nil
	}
	if o != nil && times.timeline > o.timeline {
		o = c.peers.later(origin{o.system, times.timeline})
	}
	c.peers.settle(p, now, o, times, c.quarantine())
	return nil
}

// registryOf names the registry of the server that a client reaches.
func (c *Client) registryOf(ctx context.Context, rdb redis.UniversalClient) (string, bool) {
	cluster, ok := c.rdb.(*redis.ClusterClient)
	if !ok {
		return Registry, true
	}
	return registryAt(ctx, cluster, serverOf(rdb))
}

// quarantine is how long after an incarnation began commits may be under way that its
// predecessor had fences for, and fills whose leases it had.
func (c *Client) quarantine() time.Duration { return max(c.o.FenceLife, 2*c.o.LeaseLife) }

// epochs are the registry's answer.
type epochs struct {
	now, since, source int64
	timeline           string
}

func epochTimes(cmd *redis.Cmd) (e epochs, err error) {
	texts, err := cmd.StringSlice()
	if err != nil || len(texts) != 4 {
		return e, fmt.Errorf("decode epochs %q: %w", texts, errors.Join(err, errNameless))
	}
	for i, t := range []*int64{&e.now, &e.since, &e.source} {
		if *t, err = strconv.ParseInt(texts[i], 10, 64); err != nil {
			return e, fmt.Errorf("decode epochs: %w", err)
		}
	}
	e.timeline = strings.ToLower(texts[3])
	return e, nil
}

// settle makes an incarnation usable. Nothing is stored in a quarantine, so that what was
// written nearly until its end is of before, however far two servers' clocks are apart.
func (s *peers) settle(p *peer, now *incarnation, o *origin, e epochs, quarantine time.Duration) {
	s.met.Store(true)
	next := *now
	next.noted, next.origin, next.was = true, o, ""
	life := quarantine.Milliseconds()
	if e.since > 0 {
		next.floor = max(next.floor, e.since+life-life/10)
	}
	// Once for what the registry tells, and no longer than it can take: a clock that is set back by
	// hours afterwards would have it last for hours.
	if left := min(e.since+life-e.now, life); e.since > now.since && left > 0 {
		next.until = max(next.until, steady()+left*int64(time.Millisecond))
	}
	next.since, next.floor = e.since, max(next.floor, e.source)
	if *now == next {
		return
	}
	if p.now.CompareAndSwap(now, &next) {
		for floor := s.floor.Load(); next.floor > floor && !s.floor.CompareAndSwap(floor, next.floor); {
			floor = s.floor.Load()
		}
	}
}

// later takes an origin in, unless a later one of the same system is known.
func (s *peers) later(o origin) *origin {
	for {
		old := s.origin.Load()
		if old != nil && old.system == o.system && old.timeline >= o.timeline {
			return old
		}
		if s.origin.CompareAndSwap(old, &o) {
			return &o
		}
	}
}

// NewEpoch says which database rows come from: its system identifier, and its timeline in
// 8 hex digits, which versions begin with. On a greater timeline than any known before, the
// database may have lost commits in a failover, and on another system it has: no entry that
// was written before counts any more. It sends nothing; the next request to each server does.
// It costs little where nothing is new.
func (c *Client) NewEpoch(system, timeline string) {
	if system == "" || !isHex(timeline, 8) {
		return
	}
	c.peers.later(origin{system, strings.ToLower(timeline)})
}

// distrusts says whether a value may be of before a loss: by when it was written, or because
// it was written on an earlier timeline than the known one. Fills say nothing of the latter.
func (i *incarnation) distrusts(v Value) bool {
	return v.WrittenAt.UnixMilli() < i.floor ||
		i.origin != nil && v.Version[:8] < i.origin.timeline && v.Version[:8] != fillVersion[:8]
}
