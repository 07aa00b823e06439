package parser

import (
	"strconv"
	"strings"
	"testing"
)

// query200 is a read of 200 bytes that names no ruled table.
const query200 = `SELECT o.id, o.number, o.created_at, o.total_cents, c.name, c.country FROM shop_orders o JOIN customers c ` +
	`ON c.id = o.customer_id WHERE o.created_at > $1 AND o.state IN ($2, $3) ORDER BY 1 DESC LIMIT 10`

const smallUpdate = "UPDATE users SET name = $1, updated_at = now() WHERE id = $2"

func BenchmarkCacheGet(b *testing.B) {
	c := NewCache[*Statement](4096, 8<<20)
	c.Put(query200, &Statement{})
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.Get(query200); !ok {
			b.Fatal("lost")
		}
	}
}

func BenchmarkCacheGetParallel(b *testing.B) {
	c := NewCache[*Statement](4096, 8<<20)
	c.Put(query200, &Statement{})
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			c.Get(query200)
		}
	})
}

func BenchmarkMayTouch(b *testing.B) {
	f := NewFilter([]string{"users", "products", "sessions", "Odd Name"})
	b.ReportAllocs()
	for b.Loop() {
		if f.MayTouch(query200) {
			b.Fatal("touches")
		}
	}
}

func BenchmarkParseSmallUpdate(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Parse(smallUpdate)
	}
}

func BenchmarkParseUpsert(b *testing.B) {
	const sql = "INSERT INTO users (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name RETURNING id"
	b.ReportAllocs()
	for b.Loop() {
		Parse(sql)
	}
}

func BenchmarkSpliceReturning(b *testing.B) {
	s := Parse(smallUpdate)[0]
	for b.Loop() {
		if _, err := s.SpliceReturning(smallUpdate, []string{"1"}); err != nil {
			b.Fatal(err)
		}
	}
}

const literalUpdate = "UPDATE users SET name = 'Ann', updated_at = now() WHERE id = 4711"

// What a text with constants costs that was never seen: parsed, or by its shape.
func BenchmarkParseLiteralUpdate(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Parse(literalUpdate)
	}
}

func BenchmarkShape(b *testing.B) {
	rows := func(n int) string {
		return "INSERT INTO users (id, name) VALUES (1, 'a')" + strings.Repeat(", (2, 'Ann')", n-1)
	}
	for name, sql := range map[string]string{"update": literalUpdate, "rows=50": rows(50), "rows=1000": rows(1000)} {
		c := NewCache[*Template](100, 1<<20)
		s := new(Shape)
		s.Read(sql)
		c.PutShape(s, NewTemplate(sql, s))
		b.Run(name+"/read", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := c.GetShape(s); !s.Read(sql) || !ok {
					b.Fatal("lost")
				}
			}
		})
		b.Run(name+"/fill", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				t, _ := c.GetShape(s)
				s.Read(sql)
				t.Fill(sql, s)
			}
		})
		b.Run(name+"/parse", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Parse(sql)
			}
		})
	}
}

func BenchmarkCacheAgain(b *testing.B) {
	c := NewCache[*Statement](4096, 8<<20)
	b.ReportAllocs()
	for b.Loop() {
		c.Again(query200)
	}
}

// What a text that never repeats costs a full cache.
func BenchmarkCachePutNew(b *testing.B) {
	c := NewCache[int](10_000, 32<<20)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Put(query200+strconv.Itoa(i), i)
	}
}
