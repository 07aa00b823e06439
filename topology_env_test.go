package wtcache_test

import (
	"context"
	"net/url"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// A deployment is a way to run Redis. The driver makes its own client from the URL, as
// it does for users; the tests look through another one.
type deployment struct {
	url    func(t testing.TB) string
	client func(t testing.TB, url string) redis.UniversalClient
}

var (
	single   = deployment{testenv.Redis, openClient}
	cluster  = deployment{testenv.Cluster, openClient}
	sentinel = deployment{testenv.Sentinel, openClient}
)

// openClient makes a client as the URL says. It repeats what fails: what it looks at is
// to be seen, not how.
func openClient(t testing.TB, rawURL string) redis.UniversalClient {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	var client redis.UniversalClient
	switch q := u.Query(); {
	case q.Has("master_name"):
		var o *redis.FailoverOptions
		if o, err = redis.ParseFailoverURL(rawURL); err == nil {
			client = redis.NewFailoverClient(o)
		}
	case q.Has("addr"):
		var o *redis.ClusterOptions
		if o, err = redis.ParseClusterURL(rawURL); err == nil {
			client = redis.NewClusterClient(o)
		}
	default:
		var o *redis.Options
		if o, err = redis.ParseURL(rawURL); err == nil {
			client = redis.NewClient(o)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// eachServer calls fn for each server that holds keys, of a Cluster side by side.
func eachServer(ctx context.Context, rdb redis.UniversalClient, fn func(context.Context, redis.Cmdable) error) error {
	if c, ok := rdb.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return fn(ctx, node) })
	}
	return fn(ctx, rdb)
}

// taggedFamily has keys with a hash tag of their own, so that those of a tenant are in
// one slot of a Cluster, beside entries that are spread over all.
var taggedFamily = &family{
	name:  "hash tags",
	ddl:   `CREATE TABLE orders (tenant int, id int, body text, code text UNIQUE, PRIMARY KEY (tenant, id))`,
	seed:  `TRUNCATE orders; INSERT INTO orders SELECT t, i, 'b' || i, t || '-' || i FROM generate_series(1, 4) t, generate_series(1, 3) i`,
	touch: []string{`UPDATE orders SET body = 'written' WHERE tenant < 3`},
	rules: map[string]string{"orders": `
table: {{S}}.orders
entries:
  - {name: tagged, key: "{{P}}order:{{{tenant}}}:{id}"}
  - {name: tagged_plain, key: "{{P}}plain:{{{tenant}}}:{id}", format: plain}
  - {name: spread, key: "{{P}}code:{code}"}
invalidate: ["{{P}}orders:{{{tenant}}}"]
`},
	tables: []table{{name: "{{S}}.orders", shared: []string{"orders:{{{tenant}}}"}, entries: []entry{
		{get: "orders.tagged", key: "order:{{{tenant}}}:{id}"},
		{get: "orders.tagged_plain", key: "plain:{{{tenant}}}:{id}", plain: true},
		{get: "orders.spread", key: "code:{code}"},
	}}},
	forms: []form{
		{name: "insert", sql: `INSERT INTO orders VALUES (1, 9, 'new', 'x'), (5, 1, 'new', 'y')`},
		{name: "insert, arguments", sql: `INSERT INTO orders (tenant, id, body, code) VALUES ($1, $2, 'new', $3)`, args: []any{7, 7, "z"}},
		{name: "update of one", sql: `UPDATE orders SET body = $1 WHERE tenant = $2 AND id = $3`, args: []any{"new", 1, 2}},
		{name: "update of one tenant", sql: `UPDATE orders SET body = 'new' WHERE tenant = 2`},
		{name: "update of all", sql: `UPDATE orders SET body = body || '!' RETURNING id`, how: byQuery},
		{name: "update that moves rows to another tenant", sql: `UPDATE orders SET tenant = tenant + 10 WHERE id = 1`},
		{name: "update of the other key", sql: `UPDATE orders SET code = 'c' || code WHERE tenant = 3`},
		{name: "delete", sql: `DELETE FROM orders WHERE id = 2`},
		{name: "several statements", sql: `UPDATE orders SET body = 'x' WHERE tenant = 1; DELETE FROM orders WHERE tenant = 2; INSERT INTO orders VALUES (8, 8, 'n', 'n')`},
		{name: "conflict", sql: `INSERT INTO orders VALUES (1, 1, 'c', 'c'), (6, 6, 'd', 'd') ON CONFLICT (tenant, id) DO UPDATE SET body = EXCLUDED.body`},
		{name: "truncate", sql: `TRUNCATE orders`, class: coarse},
		{name: "merge", sql: `MERGE INTO orders o USING (SELECT 1 AS t) s ON o.tenant = s.t WHEN MATCHED THEN UPDATE SET body = 'merged'`, class: coarse},
	},
}
