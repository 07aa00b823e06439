package parser

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// another gives a text of the same shape: each constant and comment is replaced by a random one
// of its class.
func another(sql string, s *Shape, r *rand.Rand) string {
	var b strings.Builder
	from := 0
	for _, slot := range s.slots {
		b.WriteString(sql[from:slot.start])
		b.WriteString(randomOf(slot.class, r))
		from = slot.end
	}
	return b.String() + sql[from:]
}

func randomOf(class slotClass, r *rand.Rand) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	switch class {
	case slotInteger:
		return pick("0", "1", "7", "64", "53", "54", "2147483647", strconv.Itoa(int(r.Int32())))
	case slotLong:
		return pick("2147483648", "9223372036854775807", "9223372036854775808", "99999999999999999999999999")
	case slotDecimal:
		return pick("0.0", "1e5", ".5", "3.", "12.50", "1E-7", "0e0")
	case slotString:
		return pick("''", "'x'", "'O''Brien'", "''''", "' , '", "'users'", "'off'", "'it -- is'", "'/* '", "'; DROP TABLE users'",
			"'größe'", "'1'", "'-1'", "'2020-01-01'", "'$1'", "'$$'", "'a''''b'", "'wtcache.old'", `'C:\'`, `'{"a": "\""}'`, "'"+strings.Repeat("long ", r.IntN(40))+"'")
	}
	return pick("/**/", "/* users */", "/* ' */", "/* ; */", "/*+ Hint(a) */", "/* a /* b */ */")
}

// checkShape compares what a template makes of other texts of a text's shape with what Parse
// and the splices make of them.
func checkShape(t *testing.T, sql string, r *rand.Rand) (texts int) {
	t.Helper()
	var s Shape
	if !s.Read(sql) {
		return 0
	}
	template := NewTemplate(sql, &s)
	if template == nil {
		return 0
	}
	first := template.Fill(sql, &s).Statement
	for range 2 {
		var s2 Shape
		other := another(sql, &s, r)
		if !s2.Read(other) || string(s2.key) != string(s.key) {
			t.Fatalf("%q has another shape than\n%q", other, sql)
		}
		checkFilled(t, template, other, &s2)
		texts++
	}
	if !reflect.DeepEqual(first, Parse(sql)[0]) {
		t.Fatalf("%q: its Statement changed with other texts", sql)
	}
	return texts
}

func checkFilled(t *testing.T, template *Template, sql string, s *Shape) {
	t.Helper()
	f := template.Fill(sql, s)
	want := Parse(sql)
	if len(want) != 1 || !reflect.DeepEqual(want[0], f.Statement) {
		t.Fatalf("%q by the template of %q:\n got %+v\nwant %+v", sql, template.Text(), f.Statement, want[0])
	}
	if f.Statement.Kind == KindOther {
		return
	}
	exprs := []string{f.Statement.Ref() + ".tableoid", "1"}
	own, err := template.Own().SpliceReturning(template.Text(), exprs)
	text, werr := want[0].SpliceReturning(sql, exprs)
	compareSplice(t, f, spliceOf{own, nil, err}, spliceOf{text, nil, werr})
	cast := func(column string) (string, bool) { return "int8", column != "name" }
	var got, all spliceOf
	got.text, got.inserted, got.err = template.Own().SpliceOldKeys(template.Text(), exprs, "'x'", cast)
	all.text, all.inserted, all.err = want[0].SpliceOldKeys(sql, exprs, "'x'", cast)
	compareSplice(t, f, got, all)
}

type spliceOf struct {
	text     string
	inserted []Inserted
	err      error
}

// compareSplice compares a splice of the template's text, carried over, with one of the text itself.
func compareSplice(t *testing.T, f Filled, own, want spliceOf) {
	t.Helper()
	if fmt.Sprint(own.err) != fmt.Sprint(want.err) {
		t.Fatalf("%q: %v, by itself %v", f.sql, own.err, want.err)
	}
	if own.err != nil {
		return
	}
	head, tail := f.of.text[:f.of.stmt.Span.Start], f.of.text[f.of.stmt.Span.End:]
	span := f.Statement.Span
	text, inserted := f.Splice(head+own.text+tail, own.inserted)
	if full := f.sql[:span.Start] + want.text + f.sql[span.End:]; text != full || !reflect.DeepEqual(inserted, want.inserted) {
		t.Fatalf("%q:\n got %q %v\nwant %q %v", f.sql, text, inserted, full, want.inserted)
	}
}

// shapedTexts are what programs send, and what may trip a shape over.
var shapedTexts = []string{
	"UPDATE users SET name = 'Ann' WHERE id = 4711",
	"UPDATE users SET name = 'Ann', n = -3, price = -12.50, big = - 9876543210 WHERE id = -5 AND n = 1",
	"UPDATE users AS u SET id = 7, name = 'a' WHERE u.id = 6 OR n < 3 RETURNING id, 'x', 5",
	"UPDATE users SET id = 7 WHERE (id = 6)",
	"UPDATE users SET name = 'lit', n = 1 FROM other o WHERE users.id = o.id AND users.id = 3",
	"UPDATE users SET n = 5, name = 'b' WHERE id IN (SELECT id FROM other WHERE x = 'y' LIMIT 3)",
	"UPDATE users SET id = 1, at = interval '1 day', d = date '2020-01-01', n = 2::int8, s = '5'::text WHERE id = '12'::bigint AND k = int '4'",
	"UPDATE users SET code = 'abc'::varchar(3), n = numeric(10, 2) '5', f = 1::float(24) WHERE id = 2",
	"UPDATE users SET n = nextval('seq'), o = 'users'::regclass::oid WHERE id = 1 /* trace: 00-abc */",
	"/* trace */ UPDATE users SET name = $1 WHERE id = $2 /* ' */;",
	"-- lead\nUPDATE users SET name = 'x' -- mid ' \nWHERE id = 1 ; -- tail",
	"UPDATE users SET a = 1, b = 1, c = '1', d = '1' WHERE id = 1 AND a = '1'",
	"UPDATE users SET a = -(1), b = -(-(2)), c = - 0, d = -0.0, e = +1, f = 3 - 4, g = -5::int WHERE id = -0",
	"UPDATE users SET tags[1] = 'z', (a, b) = (1, 'q'), h = ROW('q', 1) WHERE tags[2:3] = ARRAY['a'] AND id BETWEEN 1 AND 2",
	"UPDATE users SET name = CASE WHEN n > 3 THEN 'a' ELSE 'b' END WHERE id = ANY ('{1,2}') AND extract('year' FROM at) = 2020",
	"DELETE FROM users WHERE id = 1", "DELETE FROM ONLY users u USING other WHERE u.id = 1 AND other.n IN (1, 2, 3) RETURNING 'a', *",
	"DELETE FROM users WHERE name LIKE 'a%' ESCAPE '!' AND at > now() - interval '3' day",
	"INSERT INTO users (id, name) VALUES (1, 'a'), (-2, 'O''Brien'), (9876543210, NULL)",
	"INSERT INTO users (id, name) VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET name = 'b', n = users.n + 1 WHERE users.n < 9 RETURNING id",
	"INSERT INTO users (id, email) VALUES (1, 'a') ON CONFLICT (lower(email), (n + 1)) WHERE n > 5 DO UPDATE SET id = 2",
	"INSERT INTO users AS u SELECT 1, 'x' FROM other WHERE id = 3 ORDER BY 1 LIMIT 5 OFFSET 2 ON CONFLICT DO NOTHING",
	"INSERT INTO users (id) VALUES (1) LIMIT 1", "INSERT INTO users (id) OVERRIDING USER VALUE VALUES (1)",
	"INSERT INTO users (tags[1], home.city) VALUES ('a', 'b')",
	"WITH x AS (SELECT 3 AS id) UPDATE users SET n = 50 FROM x WHERE users.id = x.id RETURNING n",
	"SELECT * FROM users WHERE id = 4711 AND name = 'Ann' GROUP BY 1 ORDER BY 2 FETCH FIRST 3 ROWS ONLY",
	"SELECT $$users$$, $tag$it's$tag$, 'a' FROM users TABLESAMPLE system (0.5) FOR UPDATE",
	"SELECT count(*) OVER (ORDER BY a ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING), 'a' 'b' FROM users",
	"UPDATE users SET at = at AT TIME ZONE 'UTC', n = overlay('abc' placing 'x' from 1 for 2)::int WHERE x IS DISTINCT FROM 'y' AND a[1] = 2",
}

// Without it a text would be planned by the constants of another one: the key of a row that
// it does not touch is fenced, and the row that it writes stays stale in the cache.
func TestShapesMeanWhatTheirTextsMean(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	filled := 0
	for i, sql := range append(corpusTexts(t), shapedTexts...) {
		filled += checkShape(t, sql, r)
		// The corpus has more parameters than constants.
		constant := []string{"42", "'p'", "-7", "1.5", "5000000000"}[i%5]
		filled += checkShape(t, strings.NewReplacer("$1", constant, "$2", "2", "$3", "'three'").Replace(sql), r)
	}
	if filled < 600 {
		t.Errorf("only %d texts were compared", filled)
	}
}

// As TestShapesMeanWhatTheirTextsMean, for texts that nobody thought of.
func FuzzShape(f *testing.F) {
	for _, sql := range append(corpusTexts(f), shapedTexts...) {
		f.Add(sql, uint64(1))
	}
	f.Fuzz(func(t *testing.T, sql string, seed uint64) { checkShape(t, sql, rand.New(rand.NewPCG(seed, 2))) })
}

// Without it constants that the grammar tells apart would share a plan: an integer past 32 bits
// reaches it as another token, and a plan pins a string where it does not pin a decimal.
func TestShapesTellClassesApart(t *testing.T) {
	key := func(constant string) string {
		var s Shape
		if !s.Read("UPDATE users SET n = 1 WHERE id = " + constant) {
			t.Fatalf("%s has no shape", constant)
		}
		return string(s.key)
	}
	classes := [][]string{{"1", "2147483647"}, {"2147483648", "99999999999999999999"}, {"1.5", "2e9"}, {"'1'", "''", "'it''s'"},
		{"-1", "-0"}, {"$1"}, {"$2"}, {"$$1$$"}, {"$$2$$"}, {"true"}, {"false"}, {"NULL"}, {"(1, 2)"}, {"(1)"}, {`"one"`}, {`"two"`}, {"1 -- a"}, {"1 -- b"}}
	seen := map[string]string{}
	for _, class := range classes {
		for _, constant := range class {
			if key(constant) != key(class[0]) {
				t.Errorf("%s and %s have two shapes", constant, class[0])
			}
		}
		if other, taken := seen[key(class[0])]; taken {
			t.Errorf("%s has the shape of %s", class[0], other)
		}
		seen[key(class[0])] = class[0]
	}
}

// Without it a text would be planned by its shape although a server, or the grammar, reads
// something in it in another way than its constants show.
func TestTextsWithoutShape(t *testing.T) {
	for _, sql := range []string{
		"", "/* users */", "UPDATE users SET n = n", "TRUNCATE users /* c */", "BEGIN /* c */", "DO 'x'", "SET a = 1", "(SELECT 1)", "EXPLAIN (ANALYZE 'off') DELETE FROM users",
		`UPDATE users SET a = E'x'`, "UPDATE users SET a = B'1'", "UPDATE users SET a = x'1'", "UPDATE users SET a = U&'b'",
		`UPDATE U&"u!0073ers" UESCAPE '!' SET n = 1`, "UPDATE users SET a = 'b'\n'c'", "UPDATE users SET a = 'b", "UPDATE users SET a = '\xff'", "UPDATE users SET a = 'b\x00'",
		"UPDATE users SET a = 0x1F", "UPDATE users SET a = 1_000", "UPDATE users SET a = 007", "SELECT 1from users", "SELECT a FROM users WHERE a=1and b=2", "SELECT 1..2",
		"UPDATE users SET a = '" + strings.Repeat("x", maxShaped) + "'", "UPDATE users SET a = " + strings.Repeat("b, ", maxCachedText) + "'c'",
		"SELECT " + strings.Repeat("1,", maxSlots+1) + "1",
	} {
		if new(Shape).Read(sql) {
			t.Errorf("%.80q has a shape", sql)
		}
	}
}

// Without it a shape would get a template that does not fit all of its texts.
func TestShapesWithoutTemplate(t *testing.T) {
	for _, sql := range []string{
		"UPDATE users SET a = 1; DELETE FROM users", "UPDATE users SET a = 1 WHERE", "SELECT set_config('search_path', 'x', false)", "SELECT 1 INTO users",
		"WITH x AS (DELETE FROM users WHERE id = 1 RETURNING *) UPDATE users SET n = 2", "WITH x AS (DELETE FROM users WHERE id = 1 RETURNING *) SELECT 1",
		"UPDATE users SET a = b::float(24)", "UPDATE users SET a = $$" + stringSentinel + "$$, b = 1", "UPDATE users SET a = '" + stringSentinel + "'||$$" + stringSentinel + "0$$",
	} {
		var s Shape
		if s.Read(sql) && NewTemplate(sql, &s) != nil {
			t.Errorf("%q has a template", sql)
		}
	}
}

// Without it each text with constants would feed the garbage collector, before anything is
// known of it.
func TestShapeReadDoesNotAllocate(t *testing.T) {
	const sql = "UPDATE users SET name = 'Ann', n = -3 WHERE id = 4711 AND price < 12.50 /* c */"
	c := NewCache[int](100, 1<<20)
	var s Shape
	s.Read(sql)
	c.PutShape(&s, 1)
	if n := testing.AllocsPerRun(100, func() {
		if v, ok := c.GetShape(&s); !s.Read(sql) || !ok || v != 1 {
			t.Fatal("lost")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A dollar-quoted text is a part of the shape. Were it taken for a constant's place since that constant happens to be
// the template's, other texts of the shape would have the wrong key fenced.
func TestTemplateTakesNoDollarQuoteForAConstant(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, sql := range []string{
		"UPDATE users SET n = 1000000000 WHERE id = $$1000000000$$",
		"UPDATE users SET n = 9000000000000 WHERE id = $$9000000000000$$",
		"INSERT INTO users (id, n) VALUES ($x$1000000000$x$, 1000000000)",
	} {
		if checkShape(t, sql, r) == 0 {
			t.Errorf("%q has no template", sql)
		}
	}
}

// Without it each of the texts that differ in such a constant would be taken for one whose like will come again.
func TestPassingTexts(t *testing.T) {
	for sql, want := range map[string]bool{
		"UPDATE users SET n = $1": false, "UPDATE users SET n = n": false, "UPDATE users SET n = 1 -- c": false, "UPDATE users SET a = 'b' /* c */": false,
		"UPDATE users SET a = E'b'": true, "UPDATE users SET a = $$b$$": true, "UPDATE users SET a = 1, b = $x$b$x$": true, "UPDATE users SET a = 0x1F, n = 1": true,
	} {
		var s Shape
		s.Read("UPDATE users SET a = $$b$$, n = 1") // what it said of another text does not count
		if s.Read(sql); s.Passing() != want {
			t.Errorf("%q: %t", sql, s.Passing())
		}
	}
}
