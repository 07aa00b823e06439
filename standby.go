package wtcache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// replicaPatience is for how long a read waits until the standby has replayed what
	// the primary had; asking the primary for the row costs about as much as a few of its pauses.
	replicaPatience = 20 * time.Millisecond
	replicaPause    = 2 * time.Millisecond
	// replicaLimit bounds all that a read asks before its row, and the row.
	replicaLimit = time.Second
	// replicaRest is for how long a standby that failed is left alone: it must not cost
	// every miss a timeout. One that lags is left alone for ten times what was waited for it.
	replicaRest = 5 * time.Second
	replicaIdle = 16 // connections that are kept of a pool of our own
)

// standby gives connections of a read replica that is proved to have replayed what a read
// must see. It is safe for concurrent use; nil is one that is never used.
type standby struct {
	db      *sql.DB
	own     bool // opened here, and closed here
	applied bool // COMMITs wait for it: Config.ReadReplicaApplied

	patience, limit, rest time.Duration
	clock                 func() time.Duration // monotonic; since whenever
	once                  func(key, msg string, args ...any)

	restsUntil                atomic.Int64 // by clock; 0 where it does not rest
	lags                      atomic.Bool  // and rests for that
	used, behind, unavailable atomic.Uint64
}

// newStandby makes the standby of a configuration that was validated, nil where it names none.
func newStandby(cfg Config, once func(key, msg string, args ...any)) *standby {
	start := time.Now()
	s := &standby{
		db: cfg.ReadReplica, applied: cfg.ReadReplicaApplied, once: once,
		patience: replicaPatience, limit: replicaLimit, rest: replicaRest,
		clock: func() time.Duration { return time.Since(start) },
	}
	if s.db != nil {
		return s
	}
	if cfg.ReadReplicaDSN == "" {
		return nil
	}
	base, err := parseReplica(cfg.ReadReplicaDSN)
	if err != nil {
		return nil // not after validate
	}
	s.db, s.own = stdlib.OpenDB(*base), true
	s.db.SetMaxIdleConns(replicaIdle)
	return s
}

// parseReplica never repeats any of the text: what cannot be taken apart may hold a password.
func parseReplica(dsn string) (*pgx.ConnConfig, error) {
	if _, found, err := splitDSN(dsn); err != nil || len(found) > 0 {
		return nil, errors.New("it has wtcache_ keys of its own; they belong into the primary's DSN")
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("pgx cannot parse it; write it like postgres://user:password@replica:5432/database (in a password, characters like / ? # @ % have to be escaped)")
	}
	return cfg, nil
}

// close closes the pool where it is our own.
func (s *standby) close() error {
	if s == nil || !s.own {
		return nil
	}
	return s.db.Close()
}

// counts says how calls of reading ended: with a connection, with a standby that had not
// replayed enough in time, or with one that could not be asked or must not be used. Calls
// during a rest count as the one that it is for.
func (s *standby) counts() (used, behind, unavailable uint64) {
	if s == nil {
		return 0, 0, 0
	}
	return s.used.Load(), s.behind.Load(), s.unavailable.Load()
}

var (
	errReplicaBehind = errors.New("it has not replayed what the primary has written")
	errReplicaUnfit  = errors.New("it is not known to be a standby of this primary")
)

// reading gives a connection of the standby whose next snapshot holds all that was
// committed on the primary when the call began; nil where the primary has to be read. done
// must be called, and gives the connection back.
//
// So the call is the point from which on the row may be old, as the statement is where the
// primary is read: it comes after the lease was granted and the barrier looked at, and
// nobody may join the read once it has begun. A position that was remembered from before the
// lease would miss the commits in between. What the snapshot holds beside may be committed
// and not yet visible on the primary: a standby shows a commit as soon as it has replayed it.
//
// The caller's context bounds the call, and half of what it has left, so that the primary
// can still be read.
func (s *standby) reading(ctx context.Context, primary *sql.DB) (conn *sql.Conn, done func()) {
	none := func() {}
	if s == nil {
		return nil, none
	}
	at, ok := s.wanted(ctx, primary)
	if !ok {
		return nil, none
	}
	// A bound of its own: what the primary took is not to be blamed on the standby.
	bounded, cancel := s.bound(ctx)
	defer cancel()
	if bounded.Err() != nil {
		s.unavailable.Add(1)
		return nil, none
	}
	conn, err := s.proven(bounded, at)
	if err != nil {
		s.refuse(ctx, err)
		return nil, none
	}
	s.restsUntil.Store(0)
	s.used.Add(1)
	return conn, func() { _ = conn.Close() } // back to the pool
}

// wanted says whether the standby is to be asked, and what it must have replayed.
func (s *standby) wanted(ctx context.Context, primary *sql.DB) (at position, ok bool) {
	bounded, cancel := s.bound(ctx)
	defer cancel()
	switch {
	case bounded.Err() != nil:
		s.unavailable.Add(1)
		return position{}, false
	case !s.awake():
		if s.lags.Load() {
			s.behind.Add(1)
		} else {
			s.unavailable.Add(1)
		}
		return position{}, false
	case s.applied:
		return position{}, true
	}
	at, err := positionOf(bounded, primary)
	if err != nil {
		s.unavailable.Add(1) // the primary's own trouble, which its read will tell
	}
	return at, err == nil
}

// bound is the context of what is asked of a standby, or read there: it ends early enough
// for the caller to turn to the primary, and at once where there is no time to spare.
func (s *standby) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := s.limit
	if end, ok := ctx.Deadline(); ok {
		// With less than this a standby that is well would be taken for a dead one.
		if limit = min(limit, time.Until(end)/2); limit < 2*s.patience {
			limit = 0
		}
	}
	return context.WithTimeout(ctx, limit)
}

// awake says whether the standby may be asked. After a rest one caller finds out; the
// others spare themselves until he has.
func (s *standby) awake() bool {
	until := s.restsUntil.Load()
	if until == 0 {
		return true
	}
	now := s.clock()
	return int64(now) >= until && s.restsUntil.CompareAndSwap(until, int64(now+s.rest))
}

func (s *standby) sleep(d time.Duration) { s.restsUntil.Store(int64(s.clock() + d)) }

// refuse notes why the primary has to be read.
func (s *standby) refuse(ctx context.Context, err error) {
	if errors.Is(err, errReplicaBehind) {
		s.behind.Add(1)
		s.lags.Store(true)
		s.sleep(10 * s.patience)
		return
	}
	s.unavailable.Add(1)
	s.blame(ctx, err)
}

// failed is to be told of every error of a statement on a connection that reading gave,
// under the caller's context. The primary is then to be read. A standby may cancel a
// statement for its replay's sake, and has no unlogged tables: that is no reason to leave
// it alone.
func (s *standby) failed(ctx context.Context, err error) {
	if state, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok && outcomeOfState(state.SQLState()) == outcomeAborted {
		return
	}
	s.blame(ctx, err)
}

// blame lets the standby rest, unless it was the caller who gave up.
func (s *standby) blame(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	s.lags.Store(false)
	s.sleep(s.rest)
	key := "read replica failed"
	if errors.Is(err, errReplicaUnfit) {
		key = err.Error()
	}
	s.once(key, "the read replica is not used; rows are read from the primary until it can be", "error", err)
}

// proven gives a connection on which the standby was seen past the position. All of it is
// asked on the one that the row will be read on: behind a load balancer another may lead to
// another server.
func (s *standby) proven(ctx context.Context, at position) (*sql.Conn, error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if s.applied {
		err = standsBy(ctx, conn)
	} else {
		err = s.replayed(ctx, conn, at)
	}
	if err != nil {
		_ = conn.Close() // back to the pool
		return nil, err
	}
	return conn, nil
}

// replayed waits until the standby has replayed the position.
func (s *standby) replayed(ctx context.Context, conn *sql.Conn, at position) error {
	enough := time.NewTimer(s.patience)
	defer enough.Stop()
	for {
		err := replayedNow(ctx, conn, at)
		if !errors.Is(err, errReplicaBehind) {
			return err
		}
		pause := time.NewTimer(replicaPause)
		select {
		case <-pause.C:
		case <-enough.C:
			pause.Stop()
			return err
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// position is a place in the WAL of one database cluster.
type position struct {
	system   string // identifier of the cluster; a copy of it keeps that
	timeline uint64
	lsn      uint64
}

func (p position) String() string { return fmt.Sprintf("%X/%X", p.lsn>>32, uint32(p.lsn)) }

// positionSQL asks for the end of what was inserted, not of what was flushed: with
// synchronous_commit = off a commit is visible before it is flushed. The functions are
// volatile and the sub-select is one of its own, so that the position is asked for once.
const positionSQL = `SELECT coalesce(at.lsn::pg_catalog.text, ''), coalesce(pg_catalog.left(pg_catalog.pg_walfile_name(at.lsn), 8), ''),
	coalesce((SELECT o.file_offset FROM pg_catalog.pg_walfile_name_offset(at.lsn) AS o), 0),
	pg_catalog.current_setting('wal_block_size')::pg_catalog.int4, i.max_data_alignment, s.system_identifier::pg_catalog.text
FROM (SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END AS lsn OFFSET 0) AS at,
	pg_catalog.pg_control_system() AS s, pg_catalog.pg_control_init() AS i`

// positionOf asks the primary how far its WAL goes.
func positionOf(ctx context.Context, primary *sql.DB) (position, error) {
	var p position
	var lsn, timeline string
	var offset, block, alignment uint64
	err := primary.QueryRowContext(ctx, positionSQL).Scan(&lsn, &timeline, &offset, &block, &alignment, &p.system)
	if err != nil {
		return position{}, err
	}
	if lsn == "" {
		return position{}, errors.New("wtcache: the server that the *sql.DB leads to is itself in recovery")
	}
	if p.lsn, err = parseLSN(lsn); err != nil {
		return position{}, err
	}
	if p.timeline, err = strconv.ParseUint(timeline, 16, 32); err != nil {
		return position{}, err
	}
	p.lsn -= pageHeader(offset, block, alignment)
	return p, nil
}

// pageHeader is what lies between the last record and the place for the next one, where
// that is right behind the header of a page: the header is written with the next record, so
// that a standby of a primary which is idle never replays past it. After a switch of WAL
// files, which archive_timeout makes, that is so until something is written.
// Source: XLogPageHeaderData and XLogLongPageHeaderData in src/include/access/xlog_internal.h
func pageHeader(offset, block, alignment uint64) uint64 {
	const short, long = 24, 40 // with the alignment of every 64-bit platform
	switch {
	case alignment != 8 || block == 0:
		return 0
	case offset == long:
		return long
	case offset > block && offset%block == short:
		return short
	}
	return 0
}

func parseLSN(text string) (uint64, error) {
	high, low, _ := strings.Cut(text, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("wtcache: WAL position %q: %w", text, err)
	}
	l, err := strconv.ParseUint(low, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("wtcache: WAL position %q: %w", text, err)
	}
	return h<<32 | l, nil
}

// replayedSQL asks for the timeline after it has seen the position: CASE keeps that order.
// The receiver is told of a new timeline before any of it is replayed, so that all that was
// replayed up to then is of this one, or of its past. What pg_control_checkpoint says is of the
// last restartpoint, minutes ago: a standby that has left for another timeline still shows
// the old one there.
const replayedSQL = `SELECT pg_catalog.pg_is_in_recovery(), s.system_identifier::pg_catalog.text,
	coalesce(CASE WHEN pg_catalog.pg_last_wal_replay_lsn() >= $1::pg_catalog.text::pg_catalog.pg_lsn THEN coalesce(
		(SELECT coalesce(r.received_tli::pg_catalog.text, 'hidden') FROM pg_catalog.pg_stat_wal_receiver AS r), 'none') END, 'behind')
FROM pg_catalog.pg_control_system() AS s`

// replayedNow is a statement of its own, before the one that reads the row: a snapshot is
// taken when a statement starts.
func replayedNow(ctx context.Context, conn *sql.Conn, at position) error {
	var recovers bool
	var system, timeline string
	if err := conn.QueryRowContext(ctx, replayedSQL, at.String()).Scan(&recovers, &system, &timeline); err != nil {
		return err
	}
	switch {
	case !recovers:
		return fmt.Errorf("%w: it is not in recovery", errReplicaUnfit)
	case system != at.system:
		return fmt.Errorf("%w: it belongs to another database cluster", errReplicaUnfit)
	case timeline == "behind":
		return errReplicaBehind
	case timeline == "hidden":
		return fmt.Errorf("%w: its role may not see which timeline it follows; GRANT pg_read_all_stats to that role", errReplicaUnfit)
	case timeline == "none":
		return fmt.Errorf("%w: it does not receive WAL by streaming just now", errReplicaUnfit)
	case timeline != strconv.FormatUint(at.timeline, 10):
		return fmt.Errorf("%w: it follows another timeline", errReplicaUnfit)
	}
	return nil
}

// standsBy is all that is asked of a standby that COMMITs wait for: one that was promoted is
// waited for no longer.
func standsBy(ctx context.Context, conn *sql.Conn) error {
	var recovers bool
	if err := conn.QueryRowContext(ctx, "SELECT pg_catalog.pg_is_in_recovery()").Scan(&recovers); err != nil {
		return err
	}
	if !recovers {
		return fmt.Errorf("%w: it is not in recovery", errReplicaUnfit)
	}
	return nil
}
