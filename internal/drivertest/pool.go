package drivertest

import (
	"context"
	"database/sql"

	"github.com/wtcache/wtcache/internal/fakedriver"
)

var poolScenarios = []scenario{
	{name: "one connection for everything", run: func(s *side) {
		ctx, cancel := context.WithTimeout(s.ctx, patience) // a second connection would be waited for without end
		s.t.Cleanup(cancel)
		s.ctx = ctx
		s.db.SetMaxOpenConns(1)
		s.around(func(on runner) {
			for _, text := range writes {
				s.exec(on, text, "x", 2)
			}
			for _, text := range append([]string{readUsers}, returning...) {
				s.query(on, everything, text, argsFor(text)...)
			}
			s.exec(on, "TRUNCATE users")
		})
	}, shows: []string{"1 open, 0 in use, 1 idle, 0 waited"}},
	{name: "connections that are not kept", run: func(s *side) {
		s.db.SetMaxIdleConns(-1)
		for _, text := range writes {
			s.exec(s.db, text, "x", 2)
			s.note("%s", s.pool())
		}
		for _, text := range append([]string{readUsers}, returning...) {
			s.query(s.db, 1, text, argsFor(text)...)
		}
		s.settle()
		s.note("%s", s.pool())
	}},
	{name: "ping", run: func(s *side) {
		for range 2 {
			s.note("ping: %s, %s", s.describe(s.db.PingContext(s.ctx)), s.pool())
		}
		c := s.conn()
		s.note("ping of a conn: %s", s.describe(c.PingContext(s.ctx)))
		s.note("close: %s, again %s", s.describe(c.Close()), s.describe(c.Close()))
		s.note("ping of a closed conn: %s", s.describe(c.PingContext(s.ctx)))
	}, shows: []string{"ping: ok, pool: 1 open"}},
	{name: "ping that fails", on: Fake, run: func(s *side) {
		s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
			return fakedriver.Reply{Err: errInjected}, c.Op == fakedriver.Ping
		})
		s.note("ping: %s, %s", s.describe(s.db.PingContext(s.ctx)), s.pool())
	}, shows: []string{"is injected"}},
	{name: "base that cannot be reached", on: Fake, run: func(s *side) {
		s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
			return fakedriver.Reply{Err: errInjected}, c.Op == fakedriver.Connect
		})
		s.note("ping: %s, %s", s.describe(s.db.PingContext(s.ctx)), s.pool())
		s.exec(s.db, writeOne, "x", 1)
	}, shows: []string{`ping: error "injected" is injected`}},
	{name: "connections and statements that are closed", on: Fake, run: func(s *side) {
		s.prepared(s.db, writeOne, func(*sql.Stmt) {})
		s.prepared(s.db, writeLog, func(*sql.Stmt) {})
		s.note("close: %s", s.describe(s.db.Close()))
		for _, op := range []fakedriver.Op{fakedriver.Connect, fakedriver.Close, fakedriver.Prepare, fakedriver.CloseStmt} {
			s.note("%s: %d", op, s.base.Fake.Count(op))
		}
	}, shows: []string{"connect: 1", "close: 1", "prepare: 2", "close statement: 2"}},
	{name: "resets", on: Fake, run: func(s *side) {
		for range 3 {
			s.exec(s.db, writeOne, "x", 1)
			s.exec(s.db, writeAll, "x", 1)
		}
		s.note("resets: %d", s.base.Fake.Count(fakedriver.Reset))
	}, shows: []string{"resets: 5"}},
}
