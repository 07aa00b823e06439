package outbox

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// texts are the statements of a Box. Everything in them is qualified: the search_path of the session is the user's.
type texts struct {
	insert, insertFree, hand  string
	announce, longest, renew  string
	announceTogether          string
	poll, register            string
	remove, removeDead, leave string
	glance, measure           string
	newest, upTo              string
	take, settled             string // to be completed
	insertHeld                string
	release, releaseDead      string
	channel                   string
}

const pgc = "pg_catalog."

func textsFor(o Options) texts {
	channel := channelOf(o.Schema)
	fill := strings.NewReplacer(
		"$S", quote(o.Schema),
		"$NOTIFY", pgc+"pg_notify("+literal(channel)+", '')",
		"$MILLIS", strconv.FormatInt(o.Watch.Milliseconds(), 10),
		"$DEAD", fmt.Sprintf("(pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %g))", o.DeadAfter.Seconds()),
		"$NOW", pgc+"clock_timestamp()",
		"$ROWS1", pgc+"json_array_elements($1::pg_catalog.text::pg_catalog.json) AS d(value)",
		"$ROWS2", pgc+"json_array_elements($2::pg_catalog.text::pg_catalog.json) AS d(value)",
	).Replace
	return texts{
		insert:     fill(`INSERT INTO $S.outbox (outage, debt) SELECT $1::pg_catalog.int8, d.value FROM $ROWS2`),
		insertFree: fill(`INSERT INTO $S.outbox (debt) SELECT d.value FROM $ROWS1`),
		hand: fill(`WITH put AS (INSERT INTO $S.outbox (debt) SELECT d.value FROM $ROWS1 RETURNING 1)
			SELECT (SELECT pg_catalog.count(*) FROM put), $NOTIFY::pg_catalog.text`),
		announce: fill(`WITH put AS (INSERT INTO $S.outage (process) VALUES ($1::pg_catalog.text) RETURNING id)
			SELECT id, $NOTIFY::pg_catalog.text FROM put`),
		announceTogether: fill(`BEGIN; WITH put AS (INSERT INTO $S.outage (process) VALUES (`) + literal(o.Process) + fill(`) RETURNING id)
			SELECT id, $NOTIFY::pg_catalog.text FROM put; COMMIT; SELECT coalesce(pg_catalog.max(millis), 0) FROM $S.watch`),
		longest:    fill(`SELECT coalesce(pg_catalog.max(millis), 0) FROM $S.watch`),
		renew:      fill(`UPDATE $S.outage SET seen_at = $NOW WHERE id = $1::pg_catalog.int8 AND seen_at >= $DEAD`),
		poll:       fill(`SELECT pg_catalog.pg_is_in_recovery(), EXISTS (SELECT FROM $S.outage), EXISTS (SELECT FROM $S.watch WHERE millis = $MILLIS)`),
		register:   fill(`INSERT INTO $S.watch (millis) VALUES ($MILLIS) ON CONFLICT DO NOTHING`),
		remove:     fill(removal("o.id = $1::pg_catalog.int8")),
		removeDead: fill(removal("o.seen_at < $DEAD")),
		leave:      fill(`UPDATE $S.outage SET seen_at = '-infinity' WHERE id = $1::pg_catalog.int8`),
		glance:     fill(`SELECT pg_catalog.pg_is_in_recovery(), EXISTS (SELECT FROM $S.outbox WHERE NOT held), EXISTS (SELECT FROM $S.outage)`),
		measure:    fill(`SELECT pg_catalog.count(*), coalesce((extract(epoch FROM $NOW - pg_catalog.min(created_at)) * 1000)::pg_catalog.int8, 0) FROM $S.outbox`),
		newest:     fill(`SELECT pg_catalog.pg_is_in_recovery(), coalesce(pg_catalog.max(id), 0) FROM $S.outbox WHERE NOT held`),
		upTo:       fill(`SELECT pg_catalog.pg_is_in_recovery(), EXISTS (SELECT FROM $S.outbox WHERE NOT held AND id <= $1::pg_catalog.int8)`),
		take:       fill(`SELECT id, debt::pg_catalog.text FROM $S.outbox WHERE NOT held AND `),
		insertHeld: fill(`INSERT INTO $S.outbox (outage, debt, held) SELECT $1::pg_catalog.int8, d.value, true FROM $ROWS2`),
		release:    fill(`UPDATE $S.outbox SET held = false WHERE held AND outage = $1::pg_catalog.int8`),
		// The lock has the condition looked at again: a process that has just said that it is alive is not dead.
		releaseDead: fill(`WITH dead AS MATERIALIZED (SELECT id FROM $S.outage WHERE seen_at < $DEAD FOR UPDATE SKIP LOCKED)
			UPDATE $S.outbox AS b SET held = false FROM dead WHERE b.outage = dead.id AND b.held`),
		settled: fill(`DELETE FROM $S.outbox WHERE id IN `),
		channel: channel,
	}
}

// removal removes rows of outage that nothing needs. A row that is locked, by the foreign key of a transaction that may be about to commit or by
// another process at the same work, is left: nothing here may wait. A row of outbox that is committed just now makes the
// statement fail by the foreign key. The statement gives the number of removed rows, and whether any is left that the condition names.
func removal(condition string) string {
	return `WITH free AS (SELECT o.id FROM $S.outage AS o WHERE ` + condition + `
			AND NOT EXISTS (SELECT FROM $S.outbox AS b WHERE b.outage = o.id) LIMIT 100 FOR UPDATE SKIP LOCKED),
		gone AS (DELETE FROM $S.outage AS o USING free WHERE o.id = free.id RETURNING o.id),
		told AS (SELECT $NOTIFY::pg_catalog.text AS said WHERE EXISTS (SELECT FROM gone))
		SELECT (SELECT pg_catalog.count(*) FROM gone), EXISTS (SELECT FROM $S.outage AS o WHERE ` + condition + `), (SELECT said FROM told)`
}

// channelOf is the name of the channel for LISTEN, which Postgres bounds. That two schemas may share one does no harm.
func channelOf(schema string) string {
	const longest = 63
	if name := "wtcache." + schema; len(name) <= longest {
		return name
	}
	h := fnv.New64a()
	h.Write([]byte(schema))
	return fmt.Sprintf("wtcache.%x", h.Sum64())
}
