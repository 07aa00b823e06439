package main

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jmoiron/sqlx"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/wtcache/wtcache/examples/orms/entsvc/ent"
	"github.com/wtcache/wtcache/examples/orms/entsvc/ent/user"
	"github.com/wtcache/wtcache/examples/orms/gormsvc"
)

// handles are one pool in the hands of each library.
type handles struct {
	ctx  context.Context
	db   *sql.DB
	gorm *gorm.DB
	sqlx *sqlx.DB
	bun  *bun.DB
	ent  *ent.Client
}

// bunUser is bun's model with no soft delete.
type bunUser struct {
	bun.BaseModel `bun:"table:users,alias:u"`

	ID           int64 `bun:",pk,autoincrement"`
	Email, Name  string
	BalanceCents int64
}

func (bunUser) three() []bunUser {
	return []bunUser{{ID: 1, Email: "1@example.com", Name: "one"}, {ID: 2, Email: "2@example.com", Name: "two"}, {ID: 3, Email: "3@example.com", Name: "three"}}
}

var errUndo = errors.New("to be rolled back")

// forms are further statements of the libraries, each with what wtcache makes of it. Users 1 to 3 are there.
var forms = []struct {
	name                          string
	do                            func(h *handles) error
	precise, coarse, rows, sweeps uint64
}{
	{"GORM CreateInBatches", func(h *handles) error {
		return h.gorm.CreateInBatches([]gormsvc.User{{Email: "a"}, {Email: "b"}, {Email: "c"}}, 2).Error
	}, 2, 0, 3, 0},
	{"GORM FirstOrCreate", func(h *handles) error {
		return h.gorm.Where(gormsvc.User{Email: "d"}).FirstOrCreate(&gormsvc.User{}).Error
	}, 1, 0, 1, 0},
	{"GORM Updates of many, with RETURNING", func(h *handles) error {
		var changed []gormsvc.User
		err := h.gorm.Model(&changed).Clauses(clause.Returning{}).Where("id <= 3").Updates(map[string]any{"name": "many"}).Error
		return want(err, len(changed) == 3 && changed[0].Name == "many" && changed[0].Email != "", changed)
	}, 1, 0, 3, 0},
	{"GORM Save of a slice", func(h *handles) error {
		var rows []gormsvc.User
		if err := h.gorm.Where("id <= 3").Find(&rows).Error; err != nil {
			return err
		}
		return h.gorm.Save(&rows).Error
	}, 1, 0, 3, 0},
	{"GORM, a transaction within one, rolled back to its savepoint", func(h *handles) error {
		return h.gorm.Transaction(func(tx *gorm.DB) error {
			err := tx.Transaction(func(tx *gorm.DB) error {
				if err := tx.Model(&gormsvc.User{ID: 1}).Update("name", "never").Error; err != nil {
					return err
				}
				return errUndo
			})
			if !errors.Is(err, errUndo) {
				return err
			}
			return tx.Model(&gormsvc.User{ID: 2}).Update("name", "outer").Error
		})
	}, 2, 0, 2, 0},
	{"GORM with PrepareStmt", func(h *handles) error {
		orm := h.gorm.Session(&gorm.Session{PrepareStmt: true})
		for _, name := range []string{"first", "second"} {
			if err := orm.Model(&gormsvc.User{ID: 1}).Update("name", name).Error; err != nil {
				return err
			}
		}
		return nil
	}, 2, 0, 2, 0},
	{"GORM Raw with a data-modifying CTE", func(h *handles) error {
		return h.gorm.Exec("WITH gone AS (UPDATE users SET name = ? WHERE id = 1 RETURNING id) SELECT count(*) FROM gone", "cte").Error
	}, 0, 1, 0, 1},
	{"sqlx PrepareNamed", func(h *handles) error {
		named, err := h.sqlx.PrepareNamedContext(h.ctx, "UPDATE users SET name = :name WHERE id = :id")
		if err != nil {
			return err
		}
		_, err = named.ExecContext(h.ctx, map[string]any{"id": 1, "name": "prepared"})
		return errors.Join(err, named.Close())
	}, 1, 0, 1, 0},
	{"sqlx MustExec of several statements in one text", func(h *handles) error {
		_, err := h.sqlx.ExecContext(h.ctx, "UPDATE users SET name = 'several' WHERE id = 1; UPDATE users SET name = 'several' WHERE id = 2")
		return err
	}, 2, 0, 2, 0},
	{"database/sql, a statement prepared outside and used inside of a transaction", func(h *handles) error {
		stmt, err := h.db.PrepareContext(h.ctx, "UPDATE users SET name = $2 WHERE id = $1")
		if err != nil {
			return err
		}
		defer stmt.Close()
		tx, err := h.db.BeginTx(h.ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.StmtContext(h.ctx, stmt).ExecContext(h.ctx, 1, "in a transaction"); err != nil {
			return err
		}
		return tx.Commit()
	}, 1, 0, 1, 0},
	{"bun Bulk update", func(h *handles) error {
		rows := bunUser{}.three()
		_, err := h.bun.NewUpdate().Model(&rows).Column("name").Bulk().Exec(h.ctx)
		return err
	}, 1, 0, 3, 0},
	{"bun update with a CTE", func(h *handles) error {
		rows := bunUser{}.three()
		_, err := h.bun.NewUpdate().With("data", h.bun.NewValues(&rows)).Model((*bunUser)(nil)).TableExpr("data").
			Set("name = data.name").Where("u.id = data.id").Exec(h.ctx)
		return err
	}, 1, 0, 3, 0},
	{"bun insert of a slice that updates on conflict", func(h *handles) error {
		rows := bunUser{}.three()
		_, err := h.bun.NewInsert().Model(&rows).On("CONFLICT (id) DO UPDATE").Set("name = EXCLUDED.name").Exec(h.ctx)
		return err
	}, 1, 0, 3, 0},
	{"bun Merge", func(h *handles) error {
		rows := bunUser{}.three()
		_, err := h.bun.NewMerge().Model((*bunUser)(nil)).With("data", h.bun.NewValues(&rows)).Using("data").On("u.id = data.id").
			WhenUpdate("MATCHED", func(q *bun.UpdateQuery) *bun.UpdateQuery { return q.Set("name = data.name") }).Exec(h.ctx)
		return err
	}, 0, 1, 0, 1},
	{"ent CreateBulk with OnConflict", func(h *handles) error {
		return h.ent.User.CreateBulk(
			h.ent.User.Create().SetEmail("e").SetName("e").SetBalanceCents(0), h.ent.User.Create().SetEmail("f").SetName("f").SetBalanceCents(0),
		).OnConflictColumns(user.FieldEmail).UpdateNewValues().Exec(h.ctx)
	}, 1, 0, 2, 0},
	{"ent UpdateOneID of an edge", func(h *handles) error {
		return h.ent.Order.UpdateOneID(1).SetUserID(1).Exec(h.ctx)
	}, 1, 0, 1, 0},
	{"ent Delete of many", func(h *handles) error {
		_, err := h.ent.Order.Delete().Exec(h.ctx)
		return err
	}, 1, 0, 2, 0},
	{"GORM Unscoped Delete of a user, whose orders go by CASCADE", func(h *handles) error {
		return h.gorm.Unscoped().Delete(&gormsvc.User{}, 3).Error
	}, 1, 0, 1, 1},
	{"bun NewTruncateTable", func(h *handles) error {
		_, err := h.bun.NewTruncateTable().TableExpr("orders").Exec(h.ctx)
		return err
	}, 0, 1, 0, 1},
}

// openAll opens one pool for all libraries, with users 1 to 3 and orders 1 and 2 of the second.
func openAll(t *testing.T, dsn string) *handles {
	t.Helper()
	db := openService(t, "database/sql", "wtcache", dsn).DB()
	_, err := db.ExecContext(t.Context(), `INSERT INTO users (email, name, balance_cents) SELECT n || '@example.com', 'user', 0 FROM generate_series(1, 3) n`)
	check(t, err)
	_, err = db.ExecContext(t.Context(), `INSERT INTO orders (user_id, total_cents) SELECT 2, 100 FROM generate_series(1, 2)`)
	check(t, err)
	orm, err := gorm.Open(postgres.New(postgres.Config{Conn: db}), &gorm.Config{Logger: logger.Discard})
	check(t, err)
	return &handles{
		t.Context(), db, orm.WithContext(t.Context()), sqlx.NewDb(db, "wtcache"), bun.NewDB(db, pgdialect.New()),
		ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, db))),
	}
}

// TestForms runs what the service does not use. A failure means that the README tells users that a form is precise which makes all
// entries of a table absent at each use, or the other way round; or that a form leaves old rows in Redis.
func TestForms(t *testing.T) {
	t.Parallel()
	dsn, redisURL := database(t), redisOfItsOwn(t)
	h := openAll(t, forWtcache(t, dsn, redisURL))
	truth := newTruth(t, dsn, redisURL)
	for _, form := range forms {
		before := statsOf(t, h.db)
		check(t, form.do(h), form.name)
		got := difference(before, statsOf(t, h.db))
		if got.precise != form.precise || got.coarse != form.coarse || got.rows != form.rows || got.sweeps != form.sweeps {
			t.Errorf("%s: %s; want precise: %d; coarse: %d; captured rows: %d; tables of which every entry became absent: %d",
				form.name, got, form.precise, form.coarse, form.rows, form.sweeps)
		}
		truth.compare(t, "after "+form.name)
	}
}
