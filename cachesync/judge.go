package cachesync

import (
	"context"
	"sync"
	"time"
)

// unfit says why a value that is there counts as absent.
type unfit int

const (
	otherSchemaUnfit unfit = iota
	damagedUnfit
	outlivedUnfit
	distrustedUnfit
	unfits
)

var unfitTexts = [unfits]string{
	"an entry of another schema or format counts as absent: readers make room for their own",
	"a damaged entry counts as absent: its checksum does not fit its payload",
	"an entry is older than its rule's ttl and counts as absent: the ttl was lowered, or something kept it alive",
	"an entry is older than what Redis, or the database, lost in a restart or failover, and counts as absent: it may show a row as it was before a commit that Redis knows nothing of, or one that the database has lost",
}

// judge counts what a reader found and says whether it is of use. texts are those
// of decode, none where the key is absent; from is known.
func (c *Client) judge(ctx context.Context, names siblings, texts []string, from answerer, w Wanted) Found {
	if len(texts) == 0 {
		c.stats.Misses.Add(1)
		return Found{}
	}
	value, v := decode(w.Format, texts, w.Schema)
	switch v {
	case otherSchema:
		c.stats.SchemaMismatches.Add(1)
		c.say(otherSchemaUnfit, names.key)
	case damaged:
		c.stats.ChecksumMismatches.Add(1)
		c.say(damagedUnfit, names.key)
	default:
		if from.known.distrusts(value) {
			c.stats.Distrusted.Add(1)
			c.say(distrustedUnfit, names.key)
			break
		}
		age := c.age(ctx, &from.peer.clock, names.key, value.WrittenAt)
		if c.young(age, value.Payload, names.key, w) {
			c.stats.Hits.Add(1)
			c.stats.Ages.add(age)
			return Found{Value: value, Hit: true, Age: age}
		}
	}
	c.stats.Misses.Add(1)
	return Found{}
}

// clockSlack is what two comparisons of a clock may differ by.
const clockSlack = time.Second

// young says whether a reader takes a value of such an age.
func (c *Client) young(age time.Duration, payload []byte, key string, w Wanted) bool {
	switch life := w.life(payload); {
	case life > 0 && age > life+clockSlack:
		c.stats.Outlived.Add(1)
		c.say(outlivedUnfit, key)
		return false
	case w.MaxAge > 0 && age > w.MaxAge:
		c.stats.TooOld.Add(1)
		return false
	}
	return true
}

// sayings bounds how often one thing is said: a release with another rule meets
// the entries of all keys. It is safe for concurrent use.
type sayings struct {
	mu     sync.Mutex // guards both below
	latest time.Time
	unsaid int // since then
}

// sayingPause is the least time between two messages of one kind.
const sayingPause = 10 * time.Second

// turn says whether it is time to say it, and how often it was not said.
func (s *sayings) turn(now time.Time) (unsaid int, say bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.latest.IsZero() && now.Sub(s.latest) < sayingPause {
		s.unsaid++
		return 0, false
	}
	unsaid, s.latest, s.unsaid = s.unsaid, now, 0
	return unsaid, true
}

// say logs the key, never what it holds.
func (c *Client) say(why unfit, key string) {
	if unsaid, say := c.unfit[why].turn(time.Now()); say {
		c.o.Logger.Warn(unfitTexts[why], "key", key, "others_since_last_said", unsaid)
	}
}
