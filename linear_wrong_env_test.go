package wtcache_test

import (
	"context"
	"crypto/sha1"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/linear"
)

// rowReader reads one row, as oneRow takes it.
type rowReader = func(ctx context.Context, p *ledger, id int) (n int, there bool, err error)

// readAside is the reader that everybody writes: GET; where there is nothing SELECT, then SET.
func readAside(*linearShop) rowReader {
	return func(ctx context.Context, p *ledger, id int) (int, bool, error) {
		var a account
		text, err := p.rdb.Get(ctx, p.key(id)).Bytes()
		if err == nil {
			err = json.Unmarshal(text, &a)
			return a.N, true, err
		}
		if !errors.Is(err, redis.Nil) {
			return 0, false, err
		}
		n, _, err := readTable(ctx, p, id)
		if err != nil {
			return 0, false, err
		}
		return n, true, thenSet(ctx, p, id, n)
	}
}

func thenSet(ctx context.Context, p *ledger, id, n int) error {
	text, err := json.Marshal(account{ID: id, N: n})
	if err != nil {
		return err
	}
	return p.rdb.Set(ctx, p.key(id), text, time.Minute).Err()
}

func thenDelete(ctx context.Context, p *ledger, id, _ int) error {
	return p.rdb.Del(ctx, p.key(id)).Err()
}

// byHand is a write past the driver, and what its program then does to Redis. The write is over when that is done.
func byHand(name string, then func(ctx context.Context, p *ledger, id, n int) error) []linearWrite {
	return []linearWrite{{name, 1, func(c *linearClient, name string) error {
		ctx := context.Background()
		o := linear.Op{Client: c.number, Key: c.some(1)[0], Kind: linear.Update, Value: c.history.Draw(), Way: name}
		o.Call = c.history.Now()
		written, err := run(ctx, c.process.plain, setRowByKey, o.Key, o.Value)
		if err == nil {
			err = then(ctx, c.process, o.Key, o.Value)
		}
		if err == nil && written {
			c.history.Add(o)
		}
		return err
	}}}
}

// coarseWrites are those that the barrier is there for.
func coarseWrites() (coarse []linearWrite) {
	for _, w := range linearWrites {
		if w.name == coarseName {
			coarse = append(coarse, w)
		}
	}
	return coarse
}

// readSteps is a reader that takes the steps of the protocol in an order of its own, and may leave some out.
func readSteps(order ...int) func(*linearShop) rowReader {
	return func(s *linearShop) rowReader {
		clients := map[*ledger]*cachesync.Client{}
		for _, p := range s.processes {
			c, err := cachesync.New(p.rdb, cachesync.Options{Deadline: 5 * time.Second})
			if err != nil {
				s.t.Fatal(err)
			}
			s.t.Cleanup(func() { _ = c.Close() })
			clients[p] = c
		}
		return func(ctx context.Context, p *ledger, id int) (n int, there bool, err error) {
			r := stepReader{ledger: p, sync: clients[p], id: id}
			value, there, err := r.sync.Get(ctx, p.key(id), cachesync.Envelope, stepSchema)
			if err != nil || there {
				return r.decode(value, err)
			}
			for _, step := range order {
				if err := r.take(ctx, step); err != nil {
					return 0, false, err
				}
				if r.lease.State == cachesync.LeaseValue {
					return r.decode(r.lease.Value, nil)
				}
			}
			return r.n, true, r.gone
		}
	}
}

const stepSchema = "1a2b3c4d"

// stepReader is one such reader on its way.
type stepReader struct {
	*ledger
	sync *cachesync.Client
	id   int

	lease  cachesync.LeaseResult
	barred bool
	n      int
	gone   error // sql.ErrNoRows where the snapshot has no such row
}

func (r *stepReader) decode(value cachesync.Value, err error) (int, bool, error) {
	var a account
	if err == nil {
		err = json.Unmarshal(value.Payload, &a)
	}
	return a.N, true, err
}

func (r *stepReader) take(ctx context.Context, step int) (err error) {
	switch step {
	case stepLease:
		r.lease, err = r.sync.Lease(ctx, r.key(r.id), cachesync.Envelope, stepSchema)
	case stepBarrier:
		r.barred, err = r.sync.BarrierHeld(ctx, "wtcache:barrier:"+r.schema+".accounts")
	case stepSnapshot:
		if r.n, _, err = readTable(ctx, r.ledger, r.id); errors.Is(err, sql.ErrNoRows) {
			r.gone, err = err, nil
		}
	case stepFill:
		if r.barred || r.gone != nil {
			r.sync.Release(ctx, r.lease)
			return nil
		}
		payload, err := json.Marshal(account{ID: r.id, N: r.n})
		if err != nil {
			return err
		}
		_, err = r.sync.Fill(ctx, r.lease, cachesync.Entry{Payload: payload, Schema: stepSchema, TTL: time.Minute, Format: cachesync.Envelope})
		return err
	}
	return err
}

// switchedOff is a line of one of the protocol's scripts that another stands in for.
type switchedOff struct{ script, line, instead string }

func (o switchedOff) hook(t *testing.T, base redis.Hook) redis.Hook {
	t.Helper()
	source, err := scriptSource(o.script)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(source, o.line); n != 1 {
		t.Fatalf("%q is found %d times in %s.lua", o.line, n, o.script)
	}
	sum := sha1.Sum([]byte(source))
	return mutantHook{base, hex.EncodeToString(sum[:]), strings.Replace(source, o.line, o.instead, 1)}
}

// mutantHook has the server run another script than the one that it is asked to.
type mutantHook struct {
	redis.Hook
	digest, source string
}

func (h mutantHook) replace(cmd redis.Cmder) {
	if args := cmd.Args(); args[0] == "evalsha" && args[1] == h.digest {
		args[0], args[1] = "eval", h.source
	}
}

func (h mutantHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.replace(cmd)
		return next(ctx, cmd)
	}
}

func (h mutantHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			h.replace(cmd)
		}
		return next(ctx, cmds)
	}
}
