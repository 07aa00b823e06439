package wtcache_test

import (
	"context"
	"fmt"
	"log"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
)

// NewExplainer needs no Redis: a test of the program can see to it that none of its
// statements is coarse. For a *sql.DB that is open there is ExplainerOf.
func ExampleNewExplainer() {
	env, cleanUp := servers("example_cars")
	defer cleanUp()

	cfg, err := pgx.ParseConfig(env.DatabaseURL)
	if err != nil {
		log.Fatal(err)
	}
	explainer, err := wtcache.NewExplainer(context.Background(), stdlib.GetConnector(*cfg), wtcache.Config{
		Rules: fstest.MapFS{"cars.yaml": {Data: []byte(`
table: public.example_cars
key: "example:car:{id}"
`)}},
	})
	if err != nil {
		log.Fatal(err)
	}
	explained, err := explainer.Explain(`
		UPDATE example_cars SET name = $1 WHERE id = $2;
		WITH gone AS (DELETE FROM example_cars RETURNING id) SELECT count(*) FROM gone`)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range explained {
		entry := e.Tables[0].Entries[0]
		fmt.Println(e.Position.Line, e.Kind, e.Class, e.Order, entry.Keys, entry.Effect)
		fmt.Println("  ", e.Why)
		if e.Class == wtcache.ClassCoarse {
			fmt.Println("  ", e.Advice)
		}
	}
	// Output:
	// 2 UPDATE precise fence-first [example:car:{id=$2}] written
	//    RETURNING shows the rows of public.example_cars that it writes: their keys and their payloads are captured in the statement itself, while the rows are locked.
	// 3 SELECT coarse lock-first [example:car:{id}] swept
	//    It writes rows below its top level, in WITH or inside another statement, which its own RETURNING does not show, so every entry of public.example_cars becomes absent.
	//    Send the writes as statements of their own, in one transaction.
}
