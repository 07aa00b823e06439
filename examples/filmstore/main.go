// Command filmstore is the smallest program that is of use on the sample schema: it reads a film by its slug through the
// cache, and changes its price. Its rules are those that wtcache init drafts.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/wtcache/wtcache"
)

// Film is what the program wants of a cached film.
type Film struct {
	Title    string   `json:"title"`
	Rate     float64  `json:"rental_rate"`
	Features []string `json:"special_features"`
}

func main() {
	if err := run(context.Background(), os.Getenv("DATABASE_URL"), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

const slug = "silent-river-77"

func run(ctx context.Context, dsn string, out io.Writer) error {
	db, err := sql.Open("wtcache", dsn) // with WTCACHE_REDIS and WTCACHE_RULES
	if err != nil {
		return err
	}
	defer db.Close()
	films, err := wtcache.ReaderOf[Film](db, "film.by_slug")
	if err != nil {
		return err
	}
	show := func(when string) error {
		film, err := films.Row(ctx, slug)
		if err != nil {
			return err
		}
		from := "the database"
		if film.FromCache {
			from = "the cache"
		}
		_, err = fmt.Fprintf(out, "%-16s %s costs %.2f, says %s\n", when, film.Value.Title, film.Value.Rate, from)
		return err
	}
	if err := show("at first:"); err != nil {
		return err
	}
	if err := show("again:"); err != nil {
		return err
	}
	// A call site as it was before there was a cache.
	if _, err := db.ExecContext(ctx, "UPDATE film SET rental_rate = rental_rate + 1 WHERE slug = $1", slug); err != nil {
		return err
	}
	return show("after an UPDATE:")
}
