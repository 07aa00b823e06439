package main

import (
	"context"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/uptrace/bun"
	"gorm.io/gorm"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/examples/orms/entsvc/ent"
	"github.com/wtcache/wtcache/examples/orms/gormsvc"
	"github.com/wtcache/wtcache/examples/orms/service"
)

// TestReadsInTransactions reads through wtcache what each library's open transaction has written. A failure means that a program
// reads the old row in the middle of its own transaction, or that others read the new one before it is committed.
func TestReadsInTransactions(t *testing.T) {
	t.Parallel()
	h := openAll(t, forWtcache(t, database(t), redisOfItsOwn(t)))
	users, err := wtcache.ReaderOf[service.User](h.db, "users.by_id")
	check(t, err)
	look := func(library string, tx wtcache.Queryer) error {
		u, err := users.With(wtcache.In(tx)).Get(h.ctx, 1)
		if err := want(err, u.Name == library, "the name "+u.Name+" in a transaction that has set it to "+library); err != nil {
			return err
		}
		u, err = users.Get(h.ctx, 1)
		return want(err, u.Name == "user", "the name "+u.Name+" outside of the transaction")
	}
	undo := func(err error) error {
		if err == nil {
			return errUndo
		}
		return err
	}
	for library, err := range map[string]error{
		"GORM": h.gorm.Transaction(func(tx *gorm.DB) error {
			check(t, tx.Model(&gormsvc.User{ID: 1}).Update("name", "GORM").Error)
			return undo(look("GORM", tx.Statement.ConnPool))
		}),
		"bun": h.bun.RunInTx(h.ctx, nil, func(_ context.Context, tx bun.Tx) error {
			_, err := tx.NewUpdate().Model(&bunUser{ID: 1, Name: "bun"}).Column("name").WherePK().Exec(h.ctx)
			check(t, err)
			return undo(look("bun", tx.Tx))
		}),
		"sqlx": func() error {
			tx := h.sqlx.MustBeginTx(h.ctx, nil)
			defer tx.Rollback()
			tx.MustExecContext(h.ctx, "UPDATE users SET name = 'sqlx' WHERE id = 1")
			return undo(look("sqlx", tx))
		}(),
		"ent": func() error {
			tx, err := h.db.BeginTx(h.ctx, nil)
			check(t, err)
			defer tx.Rollback()
			client := ent.NewClient(ent.Driver(entsql.NewDriver(dialect.Postgres, entsql.Conn{ExecQuerier: tx})))
			_, err = client.User.Update().SetName("ent").Save(h.ctx)
			check(t, err)
			return undo(look("ent", tx))
		}(),
	} {
		if err != errUndo {
			t.Errorf("%s: %v", library, err)
		}
	}
}
