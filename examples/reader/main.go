// The program reader writes a table with GORM and reads it with wtcache, over one *sql.DB.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/wtcache/wtcache"
)

// Article is one row, for GORM and for the reader.
type Article struct {
	ID        int64        `gorm:"primaryKey" json:"id"`
	Title     string       `gorm:"not null" json:"title"`
	Published sql.NullTime `json:"published"`
}

// TableName is where GORM finds the articles.
func (Article) TableName() string { return "example_articles" }

func main() {
	if err := run(context.Background(), os.Getenv("DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dsn string) (err error) {
	db, err := sql.Open("wtcache", dsn) // with WTCACHE_REDIS and WTCACHE_RULES
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	orm, err := gorm.Open(postgres.New(postgres.Config{Conn: db}), &gorm.Config{})
	if err != nil {
		return err
	}
	articles, err := wtcache.ReaderOf[Article](db, "example_articles")
	if err != nil {
		return err
	}
	return play(ctx, orm.WithContext(ctx), articles)
}

func play(ctx context.Context, orm *gorm.DB, articles *wtcache.Reader[Article]) error {
	three := []Article{{Title: "One"}, {Title: "Two"}, {Title: "Three"}}
	if err := orm.Create(&three).Error; err != nil {
		return err
	}
	if err := show(ctx, articles, "created"); err != nil {
		return err
	}

	at := time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := orm.Model(&three[1]).Updates(Article{Title: "Two, again", Published: sql.NullTime{Time: at, Valid: true}}).Error; err != nil {
		return err
	}
	if err := orm.Delete(&three[2]).Error; err != nil {
		return err
	}
	if err := show(ctx, articles, "updated and deleted"); err != nil {
		return err
	}

	refused := errors.New("refused")
	err := orm.Transaction(func(tx *gorm.DB) error {
		if err := tx.Model(&three[0]).Update("title", "Never").Error; err != nil {
			return err
		}
		// A GORM transaction's pool is its *sql.Tx: it sees what it has written.
		mine, err := articles.With(wtcache.In(tx.Statement.ConnPool)).Get(ctx, three[0].ID)
		if err != nil {
			return err
		}
		fmt.Println("in the transaction:", mine.Title)
		return refused
	})
	if !errors.Is(err, refused) {
		return err
	}
	return show(ctx, articles, "rolled back")
}

// show prints what the reader gives for the first three articles.
func show(ctx context.Context, articles *wtcache.Reader[Article], after string) error {
	rows, err := articles.GetMany(ctx, 1, 2, 3)
	if err != nil {
		return err
	}
	fmt.Println(after + ":")
	for i, row := range rows {
		switch {
		case !row.Found:
			fmt.Printf("  %d: not there\n", i+1)
		case row.Value.Published.Valid:
			fmt.Printf("  %d: %s, published %s, from the cache: %t\n", row.Value.ID, row.Value.Title, row.Value.Published.Time.Format(time.DateOnly), row.FromCache)
		default:
			fmt.Printf("  %d: %s, from the cache: %t\n", row.Value.ID, row.Value.Title, row.FromCache)
		}
	}
	return nil
}
