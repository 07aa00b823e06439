// The program orms runs one small service with the library and the driver that it is told.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"slices"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	_ "github.com/wtcache/wtcache" // the driver "wtcache"
	"github.com/wtcache/wtcache/examples/orms/bunsvc"
	"github.com/wtcache/wtcache/examples/orms/databasesql"
	"github.com/wtcache/wtcache/examples/orms/entsvc"
	"github.com/wtcache/wtcache/examples/orms/gormsvc"
	"github.com/wtcache/wtcache/examples/orms/service"
	"github.com/wtcache/wtcache/examples/orms/sqlcsvc"
	"github.com/wtcache/wtcache/examples/orms/sqlxsvc"
)

// libraries are the ways in which the service is written. Each opens it with a driver's name and a DSN.
var libraries = map[string]func(driver, dsn string) (service.Service, error){
	"database/sql": opens(databasesql.Open),
	"sqlx":         opens(sqlxsvc.Open),
	"gorm":         opens(gormsvc.Open),
	"bun":          opens(bunsvc.Open),
	"ent":          opens(entsvc.Open),
	"sqlc":         opens(sqlcsvc.Open),
}

// opens gives an Open of one library the type that all have here, with the reads of single rows through wtcache where it is the driver.
func opens[S service.Service](open func(driver, dsn string) (S, error)) func(driver, dsn string) (service.Service, error) {
	return func(driver, dsn string) (service.Service, error) {
		s, err := open(driver, dsn)
		if err != nil {
			return nil, err
		}
		cached, err := service.Cached(s)
		if err != nil {
			return nil, errors.Join(err, s.DB().Close())
		}
		return cached, nil
	}
}

func main() {
	names := slices.Sorted(maps.Keys(libraries))
	library := flag.String("library", "database/sql", "one of "+strings.Join(names, ", "))
	driver := flag.String("driver", "wtcache", "wtcache or pgx")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *library, *driver, os.Getenv("DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, library, driver, dsn string) (err error) {
	open, known := libraries[library]
	if !known {
		return fmt.Errorf("no library %q here", library)
	}
	s, err := open(driver, dsn) // "wtcache" finds WTCACHE_REDIS and WTCACHE_RULES in the environment
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.DB().Close()) }()
	return play(ctx, out, s)
}

// play shows a few rows before and after they are written.
func play(ctx context.Context, out io.Writer, s service.Service) error {
	ann, err := s.UpsertUser(ctx, "ann@example.com", "Ann")
	if err != nil {
		return err
	}
	if err := s.Rename(ctx, ann.ID, "Ann Example"); err != nil {
		return err
	}
	orders, err := s.CreateOrders(ctx, ann.ID, 1200, 350)
	if err != nil {
		return err
	}
	if _, err := s.SetStatus(ctx, ann.ID, "placed", "sent"); err != nil {
		return err
	}
	if ann, err = s.UserByEmail(ctx, ann.Email); err != nil {
		return err
	}
	first, err := s.Order(ctx, orders[0].ID)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s has %d orders; the first, over %d cents, is %s\n", ann.Name, len(orders), first.TotalCents, first.Status)
	return err
}
