package wtcache

import (
	"fmt"
	"strings"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// ordered explains what comes first outside a transaction.
func (e *explaining) ordered() {
	st := e.st
	switch e.x.engine.order(st) {
	case orderAfterCommit:
		e.out.Order = OrderAfterCommit
		e.out.OrderWhy = "The rule is eventual: no fence before COMMIT."
		e.out.Outside = "The statement runs and commits by itself; then the entries of the rows that it captured become absent in Redis, until a reader fills them. Readers can get the old row in between."
		return
	case orderFenceFirst:
		if keys, open := e.pinnedKeys(); !open {
			e.out.Order = OrderFenceFirst
			e.out.OrderWhy = "Every key that it can touch is in its text: " + keys + "."
			e.out.Outside = "The keys are fenced, then the statement runs and commits by itself (no BEGIN and COMMIT), then what it captured is applied: two round trips to Redis."
			if len(e.args) == 0 && st.pinned.hasParams() {
				e.out.Outside += " Where an argument is of a type whose text in Postgres is not certain, it is lock first instead."
			}
			return
		}
		e.out.OrderWhy = "How Postgres spells a value that it compares the key with is not certain, so that the key is known only when the row is."
	default:
		e.out.OrderWhy = "Its keys are known only when its rows are: " + st.unpinned + "."
		if st.unpinned == "" {
			e.out.OrderWhy = "The rule is eventual, and the write is not captured by the statement alone."
		}
	}
	e.out.Order = OrderLockFirst
	if e.x.engine.eventual(st.table) {
		e.out.Outside = "In a transaction of the driver's own: BEGIN, the statement, COMMIT; then the entries become absent, until a reader fills them. Readers can get the old row in between."
		return
	}
	e.out.Outside = "In a transaction of the driver's own: BEGIN, the statement, the fences of the keys that it captured, COMMIT, and what was captured is applied."
	if st.action == actPinned {
		e.out.Outside = "In a transaction of the driver's own: BEGIN, the statement, the fences of the keys, COMMIT; the keys stay absent."
	}
}

// coarse explains a write whose rows are not known.
func (e *explaining) coarse() {
	e.sweep()
	e.out.RedisDown = e.redisDown()
	why := coarseWords(e.st.reason)
	if actors := e.x.gen.actors(e.st.stmt); e.st.reason == reasonActed && len(actors) > 0 {
		why.because = causes(actors) + ", and which rows these are no RETURNING shows"
	}
	e.out.Why = fmt.Sprintf("%s, so every entry of %s becomes absent.", upperFirst(why.because), listTables(e.st.coarse))
	e.out.Advice = why.advice
	if e.st.action == actCommitPrepared {
		e.out.Order = OrderLockFirst
		e.out.OrderWhy = "The rules are barred and swept before it is sent, and again after it."
		e.out.Outside = "All keys of all rules are swept from Redis, COMMIT PREPARED is sent, and the rules are opened again."
		e.out.Inside = "The server refuses it inside a transaction."
		return
	}
	e.out.Order = OrderLockFirst
	e.out.OrderWhy = "Which keys it touches is not known, before it runs or after."
	e.out.Outside = "In a transaction of the driver's own: BEGIN, the statement, a barrier against fills of the rule and a walk of the keyspace that deletes its keys, COMMIT, and the barrier is lifted."
	e.out.Inside = "The statement runs as it is; at COMMIT the barrier goes up and the keys are swept as outside a transaction, once for all coarse writes of it. " + rolledBackCostsNothing
}

func (e *explaining) refused() {
	for _, t := range appendTables(e.touchedAtAll(), e.st.coarse...) {
		e.table(t, howOf(e.st.stmt), ClassRefused, nil)
	}
	e.out.Sent = ""
	e.out.Why = "It is not sent: " + strings.TrimPrefix(e.st.err.Error(), "wtcache: ") + "."
	e.out.Outside = "The call returns this error; nothing is sent to Postgres or Redis."
	e.out.Inside = "The same; the transaction stays as it is."
	e.out.Advice = refusedAdvice(e.st.err)
}

// touchedAtAll gives the ruled tables that the statement writes by name.
func (e *explaining) touchedAtAll() []*rules.Table {
	b := binder{gen: e.x.gen, session: e.x.session}
	return b.written(e.st.stmt)
}

func (e *explaining) transaction() {
	e.out.Outside, e.out.Inside = "It goes to Postgres as it is.", "It goes to Postgres as it is."
	switch e.st.action {
	case actBegin:
		e.out.Why = "It begins a transaction: from here on what ruled writes capture is kept until COMMIT."
	case actCommit:
		e.out.Why = "It ends a transaction: the keys that were captured in it are fenced, COMMIT is sent, and then they are applied."
		e.out.Inside = "With ruled writes before it: fences, COMMIT, apply. Without: as it is."
	case actRollback:
		e.out.Why = "It ends a transaction: what was captured in it is forgotten, at no cost in Redis."
	case actSavepoint, actRelease:
		e.out.Why = "It is followed, so that ROLLBACK TO forgets what was captured since."
	case actRollbackTo:
		e.out.Why = "What was captured since the savepoint is forgotten; where that savepoint was not seen, every key captured so far becomes absent."
	case actPrepareTransaction:
		e.out.Why = "Without ruled writes before it, it is sent as it is; after any it is refused, because another session would decide, unseen, what becomes of them."
		e.out.Inside = "After ruled writes: an error, and the transaction stays open."
		e.out.Advice = "COMMIT instead, or keep ruled writes out of two-phase transactions."
	default:
		e.out.Why = "What was prepared is rolled back, and so no row changes."
	}
}

// notCaptured explains what may change ruled rows unseen.
func (e *explaining) notCaptured() {
	st := e.st
	e.out.Outside = "It is sent as it is. Entries of the rows that it changes hold the old row until their TTL ends, or until a captured write of the same row."
	e.out.Inside = e.out.Outside
	if st.action == actUncaptured {
		for _, t := range st.coarse {
			e.table(t, howOf(st.stmt), ClassNotCaptured, all(t, EffectStale))
		}
		words := uncapturedWords(st.reason)
		e.out.Why, e.out.Advice = upperFirst(words.because)+"; it is sent as it is, logged once and counted.", words.advice
		return
	}
	var because []string
	for _, f := range e.functions() {
		e.table(f.Table, "function", ClassNotCaptured, all(f.Table, EffectStale))
		because = append(because, fmt.Sprintf("function %s, which it calls, may write %s", f.Name, f.Table.Name))
	}
	for _, r := range e.x.gen.triggers(st.stmt) {
		e.table(r.Table, "trigger", ClassNotCaptured, all(r.Table, EffectStale))
		because = append(because, fmt.Sprintf("a trigger of %s (function %s) may write %s", r.Name, r.By, r.Table.Name))
	}
	e.out.Why = upperFirst(strings.Join(because, ", and ")) + "; what is written inside functions is not captured."
	e.out.Advice = "Write the ruled table by a statement of the program's own instead of inside the function."
}

// passed explains what goes by.
func (e *explaining) passed() {
	e.out.Outside = "It goes to Postgres as it is, and its rows come back untouched; the cost is one look-up of the text, and the first time a scan of it."
	e.out.Inside = "The same."
	s := e.st.stmt
	switch {
	case e.x.gen == nil:
		e.out.Why = "The mode is off: the program has pgx's own connections, and nothing is captured or cached."
		e.out.Outside = "It goes to Postgres as it is."
	case e.out.Class == ClassSession:
		e.session()
	case e.out.Class == ClassRead:
		tables := e.mentioned()
		for _, t := range tables {
			e.table(t, "mention", ClassRead, nil)
		}
		e.out.Why = fmt.Sprintf("It names %s and changes no row of it. Statements are answered by Postgres, never from Redis.", listTables(tables))
		if !e.x.gen.filter.MayTouch(e.st.text) {
			break
		}
		if s.Kind == parser.KindOther && !s.Nested {
			e.out.Advice = "To read single rows through the cache use wtcache.ReaderOf or CacheOf."
		}
	case s.Kind == parser.KindUnparsable:
		e.out.Why = "It cannot be parsed, and names nothing that a rule is about."
	case len(s.Written) > 0:
		e.out.Why = fmt.Sprintf("It writes %s, of which there is no rule.", relationNames(s.Written))
	default:
		e.out.Why = "It concerns no rule."
	}
}

func (e *explaining) session() {
	st := e.st
	for _, t := range st.prepares {
		e.table(t, "write", ClassSession, nil)
	}
	switch {
	case st.stmt.Kind == parser.KindPrepare && len(st.prepares) > 0:
		e.out.Why = fmt.Sprintf("It prepares a write of %s and runs nothing; an SQL-level EXECUTE of it is coarse.", listTables(st.prepares))
		e.out.Advice = "Prepare through database/sql (db.Prepare), which stays precise."
	case st.stmt.Kind == parser.KindPrepare, st.stmt.Kind == parser.KindDeallocate:
		e.out.Why = "It runs nothing; the name is remembered, so that an EXECUTE of it is known to write no ruled table, or not to be known."
	case st.ddl:
		e.out.Why = "It changes a definition that rules depend on: the catalogue is looked at again before the next ruled write."
	default:
		e.out.Why = "It may change what names mean or which role is in force: the session is looked at again before its next ruled write."
	}
	e.out.Outside = "It goes to Postgres as it is; the next ruled write of the connection asks the catalogue once."
}
