package wtcache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// replicaAskSQL asks a read replica what reading rows from it needs, and for the tables that its role may read.
const replicaAskSQL = `SELECT pg_catalog.pg_is_in_recovery(), (SELECT s.system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system() AS s),
	coalesce((SELECT coalesce(r.received_tli::pg_catalog.text, 'hidden') FROM pg_catalog.pg_stat_wal_receiver AS r), 'none'),
	coalesce(pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text, '0/0'), current_user::pg_catalog.text,
	coalesce(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()), 0)`

// replicaBehind is how much WAL a standby may lack before reads of it are likely to wait in vain.
const replicaBehind = 16 << 20

// readReplicaFindings holds the read replica against the primary that q leads to.
func (e *engine) readReplicaFindings(ctx context.Context, q rules.Querier, set *rules.Set) []cachesync.Finding {
	if e.standby == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	r := replicaCheck{found: nil}
	r.judge(ctx, q, e.standby.db)
	if len(r.found) == 0 || r.found[0].Severity < cachesync.Error {
		r.rights(ctx, e.standby.db, set)
	}
	if len(r.found) == 0 {
		r.say(cachesync.Info, "a standby of this primary answers, at its WAL", "", "")
	}
	return r.found
}

type replicaCheck struct{ found []cachesync.Finding }

func (r *replicaCheck) say(severity cachesync.Severity, problem, loss, fix string) {
	r.found = append(r.found, cachesync.Finding{Severity: severity, Subject: "read replica", Where: "wtcache_read_replica", Problem: problem, Loss: loss, Fix: fix})
}

const unusedReplica = "misses are read from the primary, and each look at the standby costs a little first"

func (r *replicaCheck) judge(ctx context.Context, q rules.Querier, db *sql.DB) {
	var recovers bool
	var system, timeline, replayed, role string
	var age float64
	if err := db.QueryRowContext(ctx, replicaAskSQL).Scan(&recovers, &system, &timeline, &replayed, &role, &age); err != nil {
		r.say(cachesync.Warning, "the read replica cannot be asked: "+err.Error(), unusedReplica, "mend wtcache_read_replica, or leave it out")
		return
	}
	at, err := primaryAt(ctx, q)
	if err != nil {
		r.say(cachesync.Info, "the primary does not tell its place in the WAL: "+err.Error(), unusedReplica, "")
		return
	}
	at.compare(r, recovers, system, timeline, replayed, role, age)
}

// compare judges the answers of the standby by the primary's place.
func (p position) compare(r *replicaCheck, recovers bool, system, timeline, replayed, role string, age float64) {
	switch lsn, err := parseLSN(replayed); {
	case system != p.system:
		r.say(cachesync.Error, "the read replica belongs to another database cluster", "it is never used: "+unusedReplica, "name a streaming standby of this very primary in wtcache_read_replica")
	case !recovers:
		r.say(cachesync.Warning, "the read replica is not in recovery: it is a primary, or was promoted", unusedReplica, "name a standby, or leave wtcache_read_replica out")
	case timeline == "hidden":
		r.say(cachesync.Warning, "the role "+role+" may not see on the standby which timeline it follows", unusedReplica, "on the primary: GRANT pg_read_all_stats TO "+parser.QuoteIdentifier(role))
	case timeline == "none":
		r.say(cachesync.Warning, "the standby does not receive WAL by streaming just now", unusedReplica, "look at its log and at primary_conninfo")
	case timeline != strconv.FormatUint(p.timeline, 10):
		r.say(cachesync.Warning, fmt.Sprintf("the standby follows timeline %s, and the primary is on %d", timeline, p.timeline), unusedReplica, "rebuild the standby, or point it at the primary")
	case err == nil && p.lsn > lsn+replicaBehind:
		r.say(cachesync.Warning, fmt.Sprintf("the standby lacks %d MB of the primary's WAL; its last commit is %v old", (p.lsn-lsn)>>20, time.Duration(age)*time.Second),
			unusedReplica, "give it more capacity, or look for a long query on it that holds up the replay")
	}
}

// primaryAt asks where the primary's WAL ends.
func primaryAt(ctx context.Context, q rules.Querier) (p position, err error) {
	rows, err := q(ctx, `SELECT (SELECT s.system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system() AS s),
	coalesce(CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END::pg_catalog.text, ''),
	coalesce(CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) END, '')`)
	if err != nil {
		return p, err
	}
	if len(rows) != 1 || len(rows[0]) != 3 || rows[0][0] == nil || *rows[0][1] == "" {
		return p, errors.New("it is itself in recovery")
	}
	p.system = *rows[0][0]
	if p.lsn, err = parseLSN(*rows[0][1]); err != nil {
		return p, err
	}
	p.timeline, err = strconv.ParseUint(*rows[0][2], 16, 32)
	return p, err
}

// rights looks for tables that the standby's role cannot read, or not wholly.
func (r *replicaCheck) rights(ctx context.Context, db *sql.DB, set *rules.Set) {
	for _, t := range set.Tables {
		var may, secured bool
		var role string
		err := db.QueryRowContext(ctx, `SELECT pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'), pg_catalog.row_security_active(c.oid), current_user::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = $1 AND c.relname = $2`, t.Name.Schema, t.Name.Table).Scan(&may, &secured, &role)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			r.say(cachesync.Warning, "the standby has no table "+t.Name.String(), unusedReplica, "it may lag; look again")
		case err != nil:
			return
		case !may:
			r.say(cachesync.Warning, fmt.Sprintf("the standby's role %s may not read %s", role, t.Name), unusedReplica,
				fmt.Sprintf("on the primary: GRANT SELECT ON %s.%s TO %s", parser.QuoteIdentifier(t.Name.Schema), parser.QuoteIdentifier(t.Name.Table), parser.QuoteIdentifier(role)))
		case secured:
			r.say(cachesync.Warning, fmt.Sprintf("row-level security is in force on %s for the standby's role %s", t.Name, role),
				"rows that its policies hide are cached as missing, or not found", "use the role of the primary's DSN there, too")
		}
	}
}
