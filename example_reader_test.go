package wtcache_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
)

// Person is what the examples read.
type Person struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

// people opens a database with Ann, Bob and Cid in a table of the name, which is ruled.
func people(table string) (*sql.DB, func()) {
	env, cleanUp := servers(table)
	cfg, err := pgx.ParseConfig(env.DatabaseURL)
	if err != nil {
		log.Fatal(err)
	}
	db, err := wtcache.OpenDB(stdlib.GetConnector(*cfg), wtcache.Config{
		RedisURL: env.RedisURL, RedisTimeout: 7 * time.Second,
		Rules: fstest.MapFS{"people.yaml": {Data: []byte("table: public." + table + "\nkey: \"" + table + ":{id}\"\n")}},
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO " + table + " VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cid')"); err != nil {
		log.Fatal(err)
	}
	return db, func() {
		if err := db.Close(); err != nil {
			log.Fatal(err)
		}
		cleanUp()
	}
}

// A reader is made once, and finds out at once when no rule has its name.
func ExampleReaderOf() {
	db, cleanUp := people("example_persons")
	defer cleanUp()
	ctx := context.Background()

	persons, err := wtcache.ReaderOf[Person](db, "example_persons")
	if err != nil {
		log.Fatal(err)
	}
	ann, err := persons.Get(ctx, 1)
	fmt.Println(ann.Name, err)
	_, err = persons.Get(ctx, 9)
	fmt.Println(err)

	_, err = wtcache.ReaderOf[Person](db, "example_person")
	fmt.Println(err)
	// Output:
	// Ann <nil>
	// sql: no rows in result set
	// wtcache: no such entry: "example_person"; did you mean "example_persons"?; the rules have example_persons.by_id
}

// Many rows cost one request to Redis, and one statement for what is not there.
func ExampleReader_GetMany() {
	db, cleanUp := people("example_guests")
	defer cleanUp()

	guests, err := wtcache.ReaderOf[Person](db, "example_guests")
	if err != nil {
		log.Fatal(err)
	}
	ids := []int64{3, 9, 1}
	rows, err := guests.GetMany(context.Background(), wtcache.Keys(ids)...)
	if err != nil {
		log.Fatal(err)
	}
	for i, row := range rows {
		fmt.Printf("%d: %q, found: %t\n", ids[i], row.Value.Name, row.Found)
	}
	// Output:
	// 3: "Cid", found: true
	// 9: "", found: false
	// 1: "Ann", found: true
}

// Options are for one call where the reader that they make is used once.
func ExampleReader_With() {
	db, cleanUp := people("example_members")
	defer cleanUp()
	ctx := context.Background()

	members, err := wtcache.ReaderOf[Person](db, "example_members")
	if err != nil {
		log.Fatal(err)
	}
	row, err := members.With(wtcache.MaxAge(time.Minute)).Row(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("from the cache:", row.FromCache, "younger than a minute:", row.Age < time.Minute)

	row, err = members.With(wtcache.Fresh()).Row(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("from the cache:", row.FromCache)
	// Output:
	// from the cache: true younger than a minute: true
	// from the cache: false
}

// A request that reads from replicas of Redis sees at least what it has written itself.
func ExampleReadYourWrites() {
	db, cleanUp := people("example_clients")
	defer cleanUp()

	// Once for a request, say in the middleware.
	ctx := wtcache.ReadYourWrites(context.Background())

	clients, err := wtcache.ReaderOf[Person](db, "example_clients", wtcache.ReplicaAllowed())
	if err != nil {
		log.Fatal(err)
	}
	if _, err := db.ExecContext(ctx, "UPDATE example_clients SET name = $1 WHERE id = $2", "Anna", 1); err != nil {
		log.Fatal(err)
	}
	anna, err := clients.Get(ctx, 1) // never Ann, however far a replica is behind
	fmt.Println(anna.Name, err)
	// Output:
	// Anna <nil>
}

// Code that runs in a transaction reads what that has written.
func ExampleIn() {
	db, cleanUp := people("example_staff")
	defer cleanUp()
	ctx := context.Background()

	staff, err := wtcache.ReaderOf[Person](db, "example_staff")
	if err != nil {
		log.Fatal(err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := tx.ExecContext(ctx, "UPDATE example_staff SET name = 'Robert' WHERE id = 2"); err != nil {
		log.Fatal(err)
	}
	inside, err := staff.With(wtcache.In(tx)).Get(ctx, 2)
	fmt.Println("the transaction sees", inside.Name, err)
	outside, err := staff.Get(ctx, 2)
	fmt.Println("others see", outside.Name, err)
	if err := tx.Rollback(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// the transaction sees Robert <nil>
	// others see Bob <nil>
}
