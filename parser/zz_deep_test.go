package parser

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	pg "github.com/pganalyze/pg_query_go/v5"
)

func rep(a string, n int) string { return strings.Repeat(a, n) }

var zshapes = map[string]func(n int) string{
	"plus":    func(n int) string { return "SELECT 1" + rep("+1", n) },
	"unary":   func(n int) string { return "SELECT " + rep("- ", n) + "a" },
	"not":     func(n int) string { return "SELECT " + rep("NOT ", n) + "a" },
	"paren":   func(n int) string { return "SELECT " + rep("(", n) + "a" + rep(")", n) },
	"sub":     func(n int) string { return rep("SELECT (", n) + "SELECT 1" + rep(")", n) },
	"fromsub": func(n int) string { return rep("SELECT * FROM (", n) + "SELECT 1" + rep(") a", n) },
	"func":    func(n int) string { return "SELECT " + rep("f(", n) + "a" + rep(")", n) },
	"array":   func(n int) string { return "SELECT ARRAY" + rep("[", n) + "1" + rep("]", n) },
	"union":   func(n int) string { return "SELECT 1" + rep(" UNION ALL SELECT 1", n) },
	"join":    func(n int) string { return "SELECT 1 FROM a" + rep(" JOIN a ON true", n) },
	"cast":    func(n int) string { return "SELECT 1" + rep("::int", n) },
	"dots":    func(n int) string { return "SELECT a" + rep(".b", n) },
	"collate": func(n int) string { return "SELECT a" + rep(" COLLATE b", n) },
	"cte":     func(n int) string { return rep("WITH a AS (", n) + "SELECT 1" + rep(") SELECT 1", n) },
	"isnull":  func(n int) string { return "SELECT a" + rep(" IS NULL", n) },
	"subscr":  func(n int) string { return "SELECT a" + rep("[1]", n) },
	"subscrp": func(n int) string { return "SELECT " + rep("(", n) + "a" + rep(")[1]", n) },
	"subscrn": func(n int) string { return "SELECT " + rep("a[", n) + "1" + rep("]", n) },
	"case":    func(n int) string { return "SELECT " + rep("CASE WHEN a THEN ", n) + "1" + rep(" END", n) },
	"casew":   func(n int) string { return "SELECT " + rep("CASE WHEN ", n) + "1" + rep(" THEN 1 END", n) },
	"comment": func(n int) string { return "SELECT " + rep("/*", n) + rep("*/", n) + "1" },
	"like":    func(n int) string { return "SELECT " + rep("(a LIKE ", n) + "b" + rep(" ESCAPE 'x')", n) },
	"tz":      func(n int) string { return "SELECT a" + rep(" AT TIME ZONE b", n) },
	"between": func(n int) string { return "SELECT a" + rep(" BETWEEN 1 AND 2 IS NULL", n) },
	"in":      func(n int) string { return "SELECT " + rep("a IN (", n) + "1" + rep(")", n) },
	"exists":  func(n int) string { return rep("SELECT EXISTS (", n) + "SELECT 1" + rep(")", n) },
	"andor":   func(n int) string { return "SELECT " + rep("(a AND (b OR ", n) + "c" + rep("))", n) },
	"orright": func(n int) string { return "SELECT " + rep("a OR (", n) + "c" + rep(")", n) },
	"joinp":   func(n int) string { return "SELECT 1 FROM " + rep("(a JOIN ", n) + "b" + rep(" ON true)", n) },
	"joinr":   func(n int) string { return "SELECT 1 FROM " + rep("a JOIN ", n) + "b" + rep(" ON true", n) },
	"atomic":  func(n int) string { return rep("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC ", n) + "SELECT 1;" + rep(" END;", n) },
	"row":     func(n int) string { return "SELECT " + rep("ROW(", n) + "1" + rep(")", n) },
	"over":    func(n int) string { return "SELECT " + rep("f() OVER (ORDER BY ", n) + "1" + rep(")", n) },
	"json":    func(n int) string { return "SELECT " + rep("JSON_OBJECT('a': ", n) + "1" + rep(")", n) },
	"xml":    func(n int) string { return "SELECT " + rep("xmlelement(name a, ", n) + "1" + rep(")", n) },
	"andlist": func(n int) string { return "SELECT a" + rep(" AND a", n) },
	"values":  func(n int) string { return "INSERT INTO a VALUES (1)" + rep(",(1)", n) },
	"insub":   func(n int) string { return rep("SELECT 1 WHERE 1 IN (", n) + "SELECT 1" + rep(")", n) },
	"lateral": func(n int) string { return rep("SELECT 1 FROM a JOIN LATERAL (", n) + "SELECT 1" + rep(") x ON true", n) },
	"unionp":  func(n int) string { return rep("(SELECT 1 UNION ", n) + "SELECT 1" + rep(")", n) },
	"filter":  func(n int) string { return "SELECT " + rep("f() FILTER (WHERE ", n) + "a" + rep(")", n) },
	"opqual":  func(n int) string { return "SELECT 1" + rep(" OPERATOR(pg_catalog.+) 1", n) },
	"any":     func(n int) string { return "SELECT " + rep("a = ANY (", n) + "a" + rep(")", n) },
	"similar": func(n int) string { return "SELECT " + rep("a SIMILAR TO (", n) + "b" + rep(")", n) },
	"named":   func(n int) string { return "SELECT " + rep("f(x => ", n) + "b" + rep(")", n) },
}

func TestZChild(t *testing.T) {
	s := os.Getenv("ZSHAPE")
	if s == "" {
		t.Skip()
	}
	n, _ := strconv.Atoi(os.Getenv("ZN"))
	_, err := pg.Parse(zshapes[s](n))
	if err != nil {
		m := err.Error()
		if len(m) > 60 { m = m[:60] }
		fmt.Println("ERR", m)
	} else {
		fmt.Println("OK")
	}
}

func TestZFind(t *testing.T) {
	if os.Getenv("ZFIND") == "" { t.Skip() }
	try := func(s string, n int) string {
		cmd := exec.Command("/bin/sh", "-c", "ulimit -s "+os.Getenv("ZSTACK")+"; exec "+os.Args[0]+" -test.run=TestZChild$")
		cmd.Env = append(os.Environ(), "ZSHAPE="+s, "ZN="+strconv.Itoa(n), "ZFIND=")
		out, err := cmd.Output()
		if err != nil { return "DIED" }
		return strings.SplitN(string(out), "\n", 2)[0]
	}
	for s := range zshapes {
		lo, hi := 1, 1
		r := ""
		for hi <= 1<<17 {
			r = try(s, hi)
			if r != "OK" { break }
			lo = hi
			hi *= 2
		}
		firstFail := r
		for hi-lo > hi/20+1 && hi <= 1<<17 {
			m := (lo + hi) / 2
			if x := try(s, m); x == "OK" { lo = m } else { hi = m; firstFail = x }
		}
		died := "-"
		if firstFail != "DIED" && hi <= 1<<17 {
			// error first: does it die deeper?
			for n := hi; n <= 1<<17; n *= 2 { if try(s, n) == "DIED" { died = fmt.Sprint("dies later ", n); break } }
		}
		var g depthGuard
		g.reset()
		src := zshapes[s](max(lo,1))
		for _, tk := range lexAll(src) { g.add(src, tk) }
		fmt.Printf("%-9s lastok=%d next=%s est=%d %s\n", s, lo, firstFail, func() int { d:=0; for _, p := range split(zshapes[s](min(lo,300))) { _=p }; var g2 depthGuard; g2.reset(); ss:=zshapes[s](min(lo,300)); for _, tk := range lexAll(ss) { g2.add(ss, tk) }; d=g2.depth(); return d }(), died)
	}
}
