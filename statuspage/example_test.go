package statuspage_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/statuspage"
)

// The page belongs on the program's own mux, behind the program's own log-in.
func Example() {
	env, err := testenv.Start(context.Background(), testenv.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer env.Close()
	config, err := pgx.ParseConfig(env.DatabaseURL)
	if err != nil {
		log.Fatal(err)
	}
	db, err := wtcache.OpenDB(stdlib.GetConnector(*config), wtcache.Config{
		RedisURL: env.RedisURL,
		Rules:    fstest.MapFS{"users.yaml": {Data: []byte("table: public.users\nkey: \"user:{id}\"\n")}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	page, err := statuspage.New(db, statuspage.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer page.Close()

	onlyOperators := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "operator" || password != "of the day" {
				w.Header().Set("WWW-Authenticate", `Basic realm="wtcache"`)
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/wtcache/", onlyOperators(page))

	for _, password := range []string{"", "of the day"} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/debug/wtcache/", nil)
		r.SetBasicAuth("operator", password)
		mux.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 401
	// 200
}
