package cachesync

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// lookKeys bounds the keys of one MGET.
const lookKeys = 500

// Look reads one key in one round trip, as Get does.
func (c *Client) Look(ctx context.Context, key string, w Wanted) Found {
	return c.look(ctx, c.rdb, key, w)
}

// LookMany reads several keys: with one MGET, in a Cluster with one a slot, all in
// one pipeline to each server (Hash: a pipeline of HMGETs; Versioned: of scripts).
// The results are in the keys' order.
func (c *Client) LookMany(ctx context.Context, keys []string, w Wanted) []Found {
	return c.lookMany(ctx, c.rdb, keys, w)
}

// Replica says whether there is a replica that LookReplica can ask in the format.
// One that needs a script has none: scripts run where they may write.
func (c *Client) Replica(format Format) bool { return c.o.Replica != nil && format != Versioned }

// LookReplica is LookMany at a replica: what it finds may be older than what was
// committed and acknowledged, by as much as the replica lags. What it finds absent
// says nothing, and no fill may follow from it.
func (c *Client) LookReplica(ctx context.Context, keys []string, w Wanted) []Found {
	return c.lookMany(ctx, c.o.Replica, keys, w)
}

func (c *Client) look(ctx context.Context, rdb redis.UniversalClient, key string, w Wanted) Found {
	names, ok := siblingsOf(key)
	if !ok {
		c.stats.Uncacheable.Add(1)
		return Found{}
	}
	if w.Format == Versioned {
		return c.follow(ctx, []siblings{names}, w)[0]
	}
	trusted := c.trust.now()
	replies := c.read(ctx, rdb, lookOne(ctx, names, w.Format))
	list := make([]any, 0, len(hashFields))
	for _, r := range replies {
		if err := notAbsent(ctx, r); err != nil {
			return Found{Err: err}
		}
		if fields, ok := r.val.([]any); ok {
			list = append(list, fields...)
		} else {
			list = append(list, r.val)
		}
	}
	if err := c.mistrust(trusted, replies[0].answerer); err != nil {
		return Found{Err: err}
	}
	return c.judge(ctx, names, textsOf(list, w.Format), replies[0].answerer, w)
}

// lookOne are the commands that read one key.
func lookOne(ctx context.Context, names siblings, format Format) []redis.Cmder {
	if format == Hash {
		args := []any{"hmget", names.key}
		for _, field := range hashFields {
			args = append(args, field)
		}
		return []redis.Cmder{once(ctx, args...)}
	}
	if format == Plain {
		return []redis.Cmder{once(ctx, "get", names.key), once(ctx, "get", names.meta)}
	}
	return []redis.Cmder{once(ctx, "get", names.key)}
}

// notAbsent is the error of a reply, unless it only says that nothing of use is
// there: a key of another Redis type is absent, too.
func notAbsent(ctx context.Context, r reply) error {
	if r.err == nil || errors.Is(r.err, redis.Nil) || redis.HasErrorPrefix(r.err, "WRONGTYPE") {
		return nil
	}
	return explain(ctx, r.err)
}

// textsOf gives the texts that a key was found to hold: of a hash all fields or
// none; of a plain entry the value, and its header if it is there.
func textsOf(list []any, format Format) []string {
	texts := make([]string, 0, len(list))
	for _, item := range list {
		text, ok := item.(string)
		switch {
		case ok:
			texts = append(texts, text)
		case format == Hash:
			return nil
		default:
			return texts
		}
	}
	return texts
}

func (c *Client) lookMany(ctx context.Context, rdb redis.UniversalClient, keys []string, w Wanted) []Found {
	found := make([]Found, len(keys))
	names, at := make([]siblings, 0, len(keys)), make([]int, 0, len(keys))
	for i, key := range keys {
		n, ok := siblingsOf(key)
		if !ok {
			c.stats.Uncacheable.Add(1)
			continue
		}
		names, at = append(names, n), append(at, i)
	}
	var some []Found
	if w.Format == Versioned {
		some = c.follow(ctx, names, w)
	} else {
		some = c.ask(ctx, rdb, names, w)
	}
	for j, f := range some {
		found[at[j]] = f
	}
	return found
}

// follow reads entries of format Versioned.
func (c *Client) follow(ctx context.Context, names []siblings, w Wanted) []Found {
	calls := make([]*call, len(names))
	for i, n := range names {
		calls[i] = followCall(n)
	}
	trusted := c.trust.now()
	c.run(ctx, calls...)
	found := make([]Found, len(names))
	for i, k := range calls {
		texts, err := k.texts()
		switch {
		case err != nil:
			found[i].Err = err
		case c.mistrust(trusted, k.answerer) != nil:
			found[i].Err = c.mistrust(trusted, k.answerer)
		default:
			found[i] = c.judge(ctx, names[i], texts, k.answerer, w)
		}
	}
	return found
}

// ask reads entries of the other formats.
func (c *Client) ask(ctx context.Context, rdb redis.UniversalClient, names []siblings, w Wanted) []Found {
	found := make([]Found, len(names))
	questions := questionsFor(ctx, rdb, names, w.Format)
	for len(questions) > 0 {
		n := min(len(questions), chunkCalls)
		cmds := make([]redis.Cmder, n)
		for i, q := range questions[:n] {
			cmds[i] = q.cmd
		}
		trusted, healthy := c.trust.now(), true
		for i, r := range c.read(ctx, rdb, cmds) {
			c.answer(ctx, questions[i], r, trusted, names, w, found)
			healthy = healthy && !isOutage(notAbsent(ctx, r))
		}
		if questions = questions[n:]; !healthy {
			break
		}
	}
	for _, q := range questions {
		for _, i := range q.at {
			found[i].Err = explain(ctx, errNotSent)
		}
	}
	return found
}

// question is one command about one key or several.
type question struct {
	cmd redis.Cmder
	at  []int // the keys' places
}

// questionsFor gives an HMGET a key, or one MGET for all keys that may be asked for together:
// in a Cluster those of one slot.
func questionsFor(ctx context.Context, rdb redis.UniversalClient, names []siblings, format Format) []question {
	var questions []question
	open := map[int]int{} // by slot: the question that still has room
	_, apart := rdb.(*redis.ClusterClient)
	for i, n := range names {
		slot := 0
		if apart {
			slot = slotOf(n.control)
		}
		q, known := open[slot]
		if !known || format == Hash || len(questions[q].at) == lookKeys {
			q = len(questions)
			open[slot] = q
			questions = append(questions, question{})
		}
		questions[q].at = append(questions[q].at, i)
	}
	for i := range questions {
		questions[i].cmd = questions[i].command(ctx, names, format)
	}
	return questions
}

func (q question) command(ctx context.Context, names []siblings, format Format) redis.Cmder {
	if format == Hash {
		return lookOne(ctx, names[q.at[0]], Hash)[0]
	}
	args := make([]any, 1, 1+2*len(q.at))
	args[0] = "mget"
	for _, i := range q.at {
		args = append(args, names[i].key)
		if format == Plain {
			args = append(args, names[i].meta)
		}
	}
	return once(ctx, args...)
}

// answer shares a reply out among its keys.
func (c *Client) answer(ctx context.Context, q question, r reply, trusted uint64, names []siblings, w Wanted, found []Found) {
	err := notAbsent(ctx, r)
	if err == nil {
		err = c.mistrust(trusted, r.answerer)
	}
	list, _ := r.val.([]any)
	each := len(list) / len(q.at)
	for j, i := range q.at {
		if err != nil {
			found[i].Err = err
			continue
		}
		found[i] = c.judge(ctx, names[i], textsOf(list[j*each:(j+1)*each], w.Format), r.answerer, w)
	}
}

// slotOf is the slot of a tagged key in a Cluster: CRC16 of what is between the first '{'
// and the next '}', modulo the number of slots.
// Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model
func slotOf(tagged string) int {
	_, rest, _ := strings.Cut(tagged, "{")
	tag, _, _ := strings.Cut(rest, "}")
	const polynomial, slots = 0x1021, 16384
	crc := uint16(0)
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ polynomial
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % slots
}
