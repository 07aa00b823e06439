package parser

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sort"
	"strings"
	"testing"
)

func rep(s string, n int) string { return strings.Repeat(s, n) }

// shapes are texts that nest or chain n times, in every way that the grammar knows.
var shapes = map[string]func(n int) string{
	"plus":      func(n int) string { return "SELECT 1" + rep("+1", n) },
	"concat":    func(n int) string { return "SELECT 'a'" + rep("||'a'", n) },
	"unary":     func(n int) string { return "SELECT " + rep("- ", n) + "a" },
	"plusminus": func(n int) string { return "SELECT " + rep("+-", n) + "a" },
	"not":       func(n int) string { return "SELECT " + rep("NOT ", n) + "a" },
	"paren":     func(n int) string { return "SELECT " + rep("(", n) + "a" + rep(")", n) },
	"sub":       func(n int) string { return rep("SELECT (", n) + "SELECT 1" + rep(")", n) },
	"from sub":  func(n int) string { return rep("SELECT * FROM (", n) + "SELECT 1" + rep(") a", n) },
	"in sub":    func(n int) string { return rep("SELECT 1 WHERE 1 IN (", n) + "SELECT 1" + rep(")", n) },
	"exists":    func(n int) string { return rep("SELECT EXISTS (", n) + "SELECT 1" + rep(")", n) },
	"lateral": func(n int) string {
		return rep("SELECT 1 FROM a JOIN LATERAL (", n) + "SELECT 1" + rep(") x ON true", n)
	},
	"cte":        func(n int) string { return rep("WITH a AS (", n) + "SELECT 1" + rep(") SELECT 1", n) },
	"func":       func(n int) string { return "SELECT " + rep("f(", n) + "a" + rep(")", n) },
	"named arg":  func(n int) string { return "SELECT " + rep("f(x => ", n) + "b" + rep(")", n) },
	"row":        func(n int) string { return "SELECT " + rep("ROW(", n) + "1" + rep(")", n) },
	"over":       func(n int) string { return "SELECT " + rep("f() OVER (ORDER BY ", n) + "1" + rep(")", n) },
	"filter":     func(n int) string { return "SELECT " + rep("f() FILTER (WHERE ", n) + "a" + rep(")", n) },
	"json":       func(n int) string { return "SELECT " + rep("JSON_OBJECT('a': ", n) + "1" + rep(")", n) },
	"xml":        func(n int) string { return "SELECT " + rep("xmlelement(name a, ", n) + "1" + rep(")", n) },
	"array":      func(n int) string { return "SELECT ARRAY" + rep("[", n) + "1" + rep("]", n) },
	"subscript":  func(n int) string { return "SELECT " + rep("a[", n) + "1" + rep("]", n) },
	"subscripts": func(n int) string { return "SELECT " + rep("(", n) + "a" + rep(")[1]", n) },
	"union":      func(n int) string { return "SELECT 1, 2" + rep(" UNION ALL SELECT 1, 2", n) },
	"union left": func(n int) string { return rep("(", n) + "SELECT 1" + rep(" UNION SELECT 1)", n) },
	"except":     func(n int) string { return rep("(SELECT 1 EXCEPT ", n) + "SELECT 1" + rep(")", n) },
	"join":       func(n int) string { return "SELECT 1 FROM a" + rep(" JOIN a ON b AND c", n) },
	"cross join": func(n int) string { return "SELECT 1 FROM a" + rep(" CROSS JOIN a", n) },
	"join right": func(n int) string { return "SELECT 1 FROM " + rep("a JOIN ", n) + "b" + rep(" ON true", n) },
	"join paren": func(n int) string { return "SELECT 1 FROM " + rep("(a JOIN ", n) + "b" + rep(" ON true)", n) },
	"cast":       func(n int) string { return "SELECT 1" + rep("::int", n) },
	"cast words": func(n int) string { return "SELECT " + rep("CAST(", n) + "1" + rep(" AS int)", n) },
	"collate":    func(n int) string { return "SELECT a" + rep(" COLLATE b", n) },
	"is null":    func(n int) string { return "SELECT a" + rep(" IS NULL", n) },
	"isnull":     func(n int) string { return "SELECT a" + rep(" ISNULL", n) },
	"notnull":    func(n int) string { return "SELECT a" + rep(" NOTNULL", n) },
	"is json":    func(n int) string { return "SELECT a" + rep(" IS JSON", n) },
	"case":       func(n int) string { return "SELECT " + rep("CASE WHEN a THEN ", n) + "1" + rep(" END", n) },
	"case else":  func(n int) string { return "SELECT " + rep("CASE a WHEN 1 THEN 2 ELSE ", n) + "1" + rep(" END", n) },
	"case when":  func(n int) string { return "SELECT " + rep("CASE WHEN ", n) + "1" + rep(" THEN 1 END", n) },
	"case op":    func(n int) string { return "SELECT " + rep("CASE WHEN a THEN 1 END + ", n) + "1" },
	"like":       func(n int) string { return "SELECT " + rep("(a LIKE ", n) + "b" + rep(" ESCAPE 'x')", n) },
	"similar":    func(n int) string { return "SELECT " + rep("a SIMILAR TO (", n) + "b" + rep(")", n) },
	"time zone":  func(n int) string { return "SELECT a" + rep(" AT TIME ZONE b", n) },
	"between":    func(n int) string { return "SELECT a" + rep(" BETWEEN 1 AND 2 IS NULL", n) },
	"in list":    func(n int) string { return "SELECT " + rep("a IN (", n) + "1" + rep(")", n) },
	"any":        func(n int) string { return "SELECT " + rep("a = ANY (", n) + "a" + rep(")", n) },
	"and or":     func(n int) string { return "SELECT " + rep("(a AND (b OR ", n) + "c" + rep("))", n) },
	"or right":   func(n int) string { return "SELECT " + rep("a OR (", n) + "c" + rep(")", n) },
	"operator":   func(n int) string { return "SELECT 1" + rep(" OPERATOR(pg_catalog.+) 1", n) },
	"atomic": func(n int) string {
		return rep("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC ", n) + "SELECT 1;" + rep(" END;", n)
	},
	"label case": func(n int) string { return "SELECT " + rep("(SELECT a.case, b.end, ", n) + "1" + rep(")", n) },
	"grouping":   func(n int) string { return "SELECT 1 GROUP BY " + rep("GROUPING SETS (", n) + "a" + rep(")", n) },
	"set value":  func(n int) string { return "UPDATE a SET b = " + rep("(b + ", n) + "1" + rep(")", n) },
	"where":      func(n int) string { return "DELETE FROM a WHERE b" + rep(" IS NOT TRUE", n) },
	"partition": func(n int) string {
		return "CREATE TABLE a (b int CHECK (" + rep("(b + ", n) + "1" + rep(")", n) + "))"
	},
	"interval": func(n int) string { return "SELECT now()" + rep(" - interval '1 day'", n) },
	"arrow":    func(n int) string { return "SELECT a" + rep("->'b'", n) },
}

// flat are texts that are long without being deep: the guard must let them pass.
var flat = map[string]func(n int) string{
	"values":     func(n int) string { return "INSERT INTO a VALUES (1)" + rep(",(1, f(2), 'x' || $1)", n) },
	"and":        func(n int) string { return "SELECT a" + rep(" AND a = 1 + 2", n) },
	"or":         func(n int) string { return "DELETE FROM a WHERE (a, b) = (1, 2)" + rep(" OR (a, b) = (1, 2)", n) },
	"between":    func(n int) string { return "SELECT a" + rep(" AND a BETWEEN 1 AND 2", n) },
	"in":         func(n int) string { return "SELECT a IN (1" + rep(",-1", n) + ")" },
	"columns":    func(n int) string { return "SELECT a" + rep(", a.b::int + 1", n) },
	"case":       func(n int) string { return "UPDATE a SET b = CASE c" + rep(" WHEN 1+1 THEN -2", n) + " ELSE b END" },
	"dots":       func(n int) string { return "SELECT a" + rep(".b", n) },
	"statements": func(n int) string { return rep("UPDATE a SET b = 1 + 1 WHERE c = -1;", n) },
	"comments":   func(n int) string { return "SELECT " + rep("/* + - */ ", n) + rep("/*", n) + rep("*/", n) + "1" },
	"array":      func(n int) string { return "SELECT ARRAY[1" + rep(", 1+1", n) + "]" },
}

func depthOf(text string) int {
	deepest := 0
	for _, p := range split(text) {
		deepest = max(deepest, p.depth)
	}
	return deepest
}

// deepestUnder returns the shape's longest text whose depth is within the bound,
// with brackets within what the grammar itself takes.
func deepestUnder(shape func(int) string, bound int) string {
	n := sort.Search(4*maxBrackets, func(n int) bool { return depthOf(shape(n+1)) > bound })
	return shape(n)
}

// deepModes are what a child process does with every shape.
var deepModes = map[string]func(shape func(int) string){
	// Four times the texts that run on the caller's thread, on a small stack.
	"direct": func(shape func(int) string) { parseHere(deepestUnder(shape, 4*directNesting)) },
	// Four times the texts that the grammar gets at all, on the large stack.
	"deep": func(shape func(int) string) {
		text := shape(1)
		for n := 1; n < 4*maxNesting && estimate(text) < 4*maxNesting; n = n*5/4 + 1 {
			text = shape(n)
		}
		parseDeep(text)
	},
	// What a caller can send: at the bound, and far over it.
	"parse": func(shape func(int) string) {
		Parse(deepestUnder(shape, directNesting))
		Parse(deepestUnder(shape, maxNesting))
		Parse(shape(50_000))
	},
}

// estimate is a depth that does not stop at the guard's own bounds.
func estimate(text string) int {
	ops := 0
	for _, t := range lexAll(text) {
		if t.kind == tokOp || t.kind == tokPunct && strings.ContainsRune("([", rune(text[t.start])) {
			ops++
		}
		if t.kind == tokWord && wordClass(t.text(text)) != classNone {
			ops++
		}
	}
	return ops
}

const deepChildVariable = "WTCACHE_TEST_DEEP_MODE"

// TestDeepChild is the body of the child processes; on its own it does the same
// for one shape in the test's own process.
func TestDeepChild(t *testing.T) {
	mode := os.Getenv(deepChildVariable)
	if mode == "" {
		deepModes["parse"](shapes["plus"])
		return
	}
	runtime.LockOSThread()
	names := make([]string, 0, len(shapes))
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("shape %s\n", name)
		deepModes[mode](shapes[name])
	}
	fmt.Println("all lived")
}

// Without it one long generated expression ends the user's whole program: the C
// parser overflows its stack, and no recover helps.
func TestDeepTextsLive(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("stack sizes are set by ulimit here")
	}
	for mode := range deepModes {
		for _, stack := range []string{"128", "8192"} {
			t.Run(mode+"/"+stack, func(t *testing.T) {
				t.Parallel()
				cmd := exec.Command("/bin/sh", "-c", `ulimit -s "$1" && exec "$2" -test.run='^TestDeepChild$'`, "sh", stack, os.Args[0])
				cmd.Env = append(os.Environ(), deepChildVariable+"="+mode)
				out, err := cmd.CombinedOutput()
				if err != nil || !strings.Contains(string(out), "all lived") {
					t.Fatalf("child with a stack of %s KiB: %v\n%s", stack, err, tail(string(out)))
				}
			})
		}
	}
}

func tail(s string) string {
	if len(s) > 1500 {
		return s[len(s)-1500:]
	}
	return s
}

// Without it the guard does not see a shape, or takes it for less than it is:
// texts over the bound must come back without having been parsed.
func TestTooDeepIsUnparsable(t *testing.T) {
	for name, shape := range shapes {
		text := shape(50_000)
		stmts := Parse(text)
		for _, s := range stmts {
			if s.Kind != KindUnparsable {
				t.Errorf("%s: %d bytes parsed as kind %d", name, len(text), s.Kind)
				break
			}
		}
		if len(stmts) == 0 {
			t.Errorf("%s: no statement", name)
		}
	}
}

// Without it long ordinary statements (bulk INSERTs, long IN lists) would be
// treated as unknown and cost the user the whole cache of a rule.
func TestFlatTextsParse(t *testing.T) {
	for name, text := range flat {
		for _, s := range Parse(text(4_000)) {
			if s.Kind == KindUnparsable {
				t.Errorf("%s: refused, depth %d", name, depthOf(text(4_000)))
				break
			}
		}
	}
}

// Without it real nesting depths would be refused.
func TestOrdinaryDepthsParse(t *testing.T) {
	for name, shape := range shapes {
		if s := Parse(shape(40)); len(s) != 1 || s[0].Kind == KindUnparsable {
			t.Errorf("%s: refused at 40 levels, depth %d: %s", name, depthOf(shape(40)), shape(2))
		}
	}
}
