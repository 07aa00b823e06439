package wtcache_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
)

// explainFamily has functions and triggers that write a ruled table behind a statement's back.
func explainFamily() *family {
	f := usersFamily("explain", nil)
	f.ddl += `; CREATE FUNCTION promote(int) RETURNS void LANGUAGE sql AS 'UPDATE users SET visits = 0 WHERE id = $1';
		CREATE TABLE visits (user_id int);
		CREATE FUNCTION visited() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE users SET visits = visits + 1 WHERE id = NEW.user_id; RETURN NULL; END';
		CREATE TRIGGER visited AFTER INSERT ON visits FOR EACH ROW EXECUTE FUNCTION visited();
		CREATE TABLE teams (id int PRIMARY KEY); ALTER TABLE users ADD team_id int CONSTRAINT of_team REFERENCES teams ON DELETE CASCADE`
	return f
}

func (w *world) explainConfig(t *testing.T) wtcache.Config {
	t.Helper()
	return wtcache.Config{Rules: fstest.MapFS{"users.yaml": {Data: []byte(w.expand(w.rules["users"]))}}}
}

// newExplainer makes one without Redis, and gives what was sent for it.
func (w *world) newExplainer(t *testing.T, options ...func(*pgx.ConnConfig)) (*wtcache.Explainer, *sentTexts) {
	t.Helper()
	sent := &sentTexts{}
	cfg := w.config(t, append(options, func(cfg *pgx.ConnConfig) {
		cfg.Tracer = sent
		cfg.RuntimeParams["application_name"] = w.schema
	})...)
	x, err := wtcache.NewExplainer(t.Context(), stdlib.GetConnector(*cfg), w.explainConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	return x, sent
}

func explainOne(t *testing.T, x *wtcache.Explainer, text string, args ...any) wtcache.Explanation {
	t.Helper()
	all, err := x.Explain(text, args...)
	if err != nil || len(all) != 1 {
		t.Fatalf("%s: %d explanations, %v", text, len(all), err)
	}
	return all[0]
}

// TestExplainSendsNothing: whoever explains a DELETE on the production database must not have run it, nor left a connection open.
func TestExplainSendsNothing(t *testing.T) {
	t.Parallel()
	w := newTwin(t, explainFamily())
	x, sent := w.newExplainer(t)
	catalogue := len(sent.all)
	for _, text := range []string{`DELETE FROM users /* mine */`, `EXPLAIN ANALYZE DELETE FROM users /* mine */`, `SELECT promote(1) /* mine */`, `TRUNCATE users /* mine */`} {
		explainOne(t, x, text)
	}
	if slices.ContainsFunc(sent.all, func(s string) bool { return strings.Contains(s, "mine") }) || len(sent.all) != catalogue || catalogue == 0 {
		t.Errorf("Postgres got %d texts for the catalogue and %d in all", catalogue, len(sent.all))
	}
	eventually(t, "the connection is closed", func() bool {
		var n int
		if err := w.plain.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", w.schema).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
}

// TestExplainClasses: each kind of statement with what a user reads of it.
func TestExplainClasses(t *testing.T) {
	t.Parallel()
	w := newTwin(t, explainFamily())
	x, _ := w.newExplainer(t)
	for _, c := range []struct {
		text  string
		class wtcache.Class
		how   string
		says  string // in what is printed of it
	}{
		{`SELECT * FROM orders`, wtcache.ClassUnruled, "", "no rule"},
		{`INSERT INTO orders VALUES (1)`, wtcache.ClassUnruled, "", "no rule"},
		{`SELECT * FROM users WHERE id = 1`, wtcache.ClassRead, "mention", "ReaderOf"},
		{`BEGIN`, wtcache.ClassTransaction, "", "kept until COMMIT"},
		{`PREPARE TRANSACTION 'x'`, wtcache.ClassTransaction, "", "refused"},
		{`SET search_path = x`, wtcache.ClassSession, "", "looked at again"},
		{`PREPARE p AS DELETE FROM users`, wtcache.ClassSession, "write", "db.Prepare"},
		{`UPDATE users SET name = '' WHERE id = 1`, wtcache.ClassPrecise, "update", "RETURNING shows"},
		{`INSERT INTO users (id, email) VALUES (1, '') ON CONFLICT (id) DO UPDATE SET name = ''`, wtcache.ClassPrecise, "upsert", "payloads"},
		{`WITH d AS (DELETE FROM users) SELECT 1`, wtcache.ClassCoarse, "write", "one transaction"},
		{`MERGE INTO users u USING orgs o ON o.id = u.id WHEN MATCHED THEN DELETE`, wtcache.ClassCoarse, "merge", "ON CONFLICT"},
		{`DELETE FROM teams WHERE id = 1`, wtcache.ClassCoarse, "foreign-key", "of_team"},
		{`EXECUTE unseen`, wtcache.ClassCoarse, "write", "db.Prepare"},
		{`COMMIT PREPARED 'x'`, wtcache.ClassCoarse, "write", "any program"},
		{`ALTER TABLE users ADD x int`, wtcache.ClassCoarse, "definition", "migrations"},
		{`CREATE INDEX CONCURRENTLY i ON users (name)`, wtcache.ClassNotCaptured, "definition", "CONCURRENTLY"},
		{`SELECT promote(1)`, wtcache.ClassNotCaptured, "function", "promote"},
		{`DO $$BEGIN PERFORM "promote"(1); END$$`, wtcache.ClassNotCaptured, "function", "promote"},
		{`DO 'BEGIN RAISE NOTICE ''promote''; END'`, wtcache.ClassSession, "", ""},
		{`CALL "promote"(1)`, wtcache.ClassNotCaptured, "function", "promote"},
		{`INSERT INTO visits VALUES (1)`, wtcache.ClassNotCaptured, "trigger", "visited"},
		{`SELEC * FROM users`, wtcache.ClassCoarse, "write", "syntax error"},
		{`UPDATE users SET x = (; DELETE FROM users`, wtcache.ClassRefused, "write", "one by one"},
	} {
		e := explainOne(t, x, c.text)
		printed, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if e.Class != c.class || !strings.Contains(string(printed), c.says) {
			t.Errorf("%s: %s, want %s that says %q:\n%s", c.text, e.Class, c.class, c.says, printed)
		}
		if how := ""; len(e.Tables) > 0 {
			if how = e.Tables[0].How; how != c.how {
				t.Errorf("%s: how is %q, want %q", c.text, how, c.how)
			}
		} else if c.how != "" {
			t.Errorf("%s: touches no table, want %s", c.text, c.how)
		}
		if e.Why == "" || !strings.HasSuffix(e.Why, ".") || e.Outside == "" || e.Inside == "" {
			t.Errorf("%s: not said in full sentences: %+v", c.text, e)
		}
	}
}

// TestExplainKeys: the keys that are shown are those that are in Redis afterwards, as far as anybody can know.
func TestExplainKeys(t *testing.T) {
	t.Parallel()
	w := newTwin(t, usersFamily("keys", nil))
	x, _ := w.newExplainer(t)
	for _, c := range []struct {
		text string
		args []any
		want string // of by_id; by_email, with < before those of before
	}{
		{`UPDATE users SET name = '' WHERE id = 42`, nil, "user:42; user_email:{email}"},
		{`UPDATE users SET name = '' WHERE id = $1`, nil, "user:{id=$1}; user_email:{email}"},
		{`UPDATE users SET name = '' WHERE id = $1`, []any{7}, "user:7; user_email:{email}"},
		{`UPDATE users SET name = '' WHERE id = $1`, []any{"7"}, "user:7; user_email:{email}"},
		{`UPDATE users SET name = '' WHERE id = $1`, []any{"07"}, "user:{id=$1}; user_email:{email}"},
		{`UPDATE users SET name = '' WHERE id = '07'`, nil, "user:{id='07'}; user_email:{email}"},
		{`UPDATE users SET email = $2 WHERE id = $1`, []any{7, "a%b"}, "user:7; user_email:a%25b<user_email:{email}"},
		{`UPDATE users SET email = lower(email) WHERE email = 'A'`, nil, "user:{id}; user_email:{email}<user_email:A"},
		{`DELETE FROM users WHERE id = 1 OR true`, nil, "user:{id}; user_email:{email}"},
		{`DELETE FROM users WHERE email = 'x' AND id = 1`, nil, "user:1; user_email:x"},
		{`INSERT INTO users (id, email) VALUES (1, 'a'), (2, $1), (3, lower('B'))`, nil, "user:1 user:2 user:3; user_email:a user_email:{email=$1} user_email:{email}"},
		{`INSERT INTO users (id, email) VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET name = ''`, nil, "user:1; user_email:{email}"},
		{`INSERT INTO users SELECT 1`, nil, "user:{id}; user_email:{email}"},
	} {
		e := explainOne(t, x, c.text, c.args...)
		var got []string
		for _, entry := range e.Tables[0].Entries[:2] {
			one := strings.Join(entry.Keys, " ")
			if entry.OldKeys != nil {
				one += "<" + strings.Join(entry.OldKeys, " ")
			}
			got = append(got, strings.ReplaceAll(one, w.prefix, ""))
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s with %v: keys are %s, want %s", c.text, c.args, strings.Join(got, "; "), c.want)
		}
	}
	if _, err := x.Explain(`SELECT 1; SELECT 2`, 1); err == nil {
		t.Error("arguments for two statements are taken")
	}
}

// TestExplainPositions: an editor has to be led to the very place.
func TestExplainPositions(t *testing.T) {
	t.Parallel()
	w := newTwin(t, usersFamily("positions", nil))
	x, _ := w.newExplainer(t)
	text := "-- Größe\n  UPDATE users SET name = 'ü';\n/* é */ SELEKT 'é', 1;\nDELETE FROM users WHERE 'öö' = = 1;\n\nUPDATE users SET name = 'never ends"
	all, err := x.Explain(text)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range all {
		at := fmt.Sprintf("%d:%d", e.Position.Line, e.Position.Column)
		if e.SyntaxError != nil {
			at += fmt.Sprintf(" fault %d:%d", e.SyntaxError.Position.Line, e.SyntaxError.Position.Column)
		}
		got = append(got, at)
	}
	if want := "2:3, 3:9 fault 3:9, 4:1 fault 4:32, 6:1 fault 6:25"; strings.Join(got, ", ") != want {
		t.Errorf("positions are %s, want %s", strings.Join(got, ", "), want)
	}
	if all, err := x.Explain(" -- nothing\n;"); len(all) != 0 || err != nil {
		t.Errorf("an empty text gives %v, %v", all, err)
	}
}

// TestExplainSees: what a migration, a role and a mode change has to be in the next explanation.
func TestExplainSees(t *testing.T) {
	t.Parallel()
	w := newWorld(t, usersFamily("sees", nil))
	const text = `UPDATE users SET name = 'x' WHERE id = 1`
	class := func() wtcache.Class {
		x, err := wtcache.ExplainerOf(t.Context(), w.db)
		if err != nil {
			t.Fatal(err)
		}
		return explainOne(t, x, text).Class
	}
	if got := class(); got != wtcache.ClassPrecise {
		t.Errorf("at first it is %s", got)
	}
	w.execPlain(t, `CREATE RULE also AS ON UPDATE TO users DO ALSO DELETE FROM imports`)
	if got := class(); got != wtcache.ClassCoarse {
		t.Errorf("with a rewrite rule that another program made it is %s", got)
	}
	w.execPlain(t, `DROP RULE also ON users; CREATE ROLE {{R}}; GRANT USAGE ON SCHEMA {{S}} TO {{R}}; GRANT UPDATE ON users TO {{R}}`)
	t.Cleanup(func() { w.execPlain(t, `DROP OWNED BY {{R}}; DROP ROLE {{R}}`) })
	x, _ := w.newExplainer(t, func(cfg *pgx.ConnConfig) { cfg.RuntimeParams["role"] = w.role })
	if e := explainOne(t, x, text); e.Class != wtcache.ClassRefused || !strings.Contains(e.Advice, "GRANT SELECT ON") || e.Sent != "" {
		t.Errorf("without SELECT: %+v", e)
	}
	cfg := w.explainConfig(t)
	cfg.Mode = wtcache.ModeEventual
	eventual, err := wtcache.NewExplainer(t.Context(), stdlib.GetConnector(*w.config(t)), cfg)
	if err != nil {
		t.Fatal(err)
	}
	e := explainOne(t, eventual, text)
	if e.Order != wtcache.OrderAfterCommit || strings.Contains(e.Sent, "row_to_json") || strings.Contains(e.Why+e.Outside+e.Inside, "payload") || strings.Contains(e.Inside, "fence") {
		t.Errorf("with mode eventual: %+v", e)
	}
	for _, entry := range e.Tables[0].Entries {
		if entry.Effect != wtcache.EffectAbsent {
			t.Errorf("with mode eventual %s is %s after the write", entry.Key, entry.Effect)
		}
	}
	cfg.Mode = wtcache.ModeOff
	off, err := wtcache.NewExplainer(t.Context(), nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if e := explainOne(t, off, text); e.Class != wtcache.ClassUnruled || !strings.Contains(e.Why, "off") {
		t.Errorf("with mode off: %+v", e)
	}
	if _, err := wtcache.ExplainerOf(t.Context(), stdlib.OpenDB(*w.config(t))); !errors.Is(err, wtcache.ErrConfig) {
		t.Errorf("of a database that is not wtcache's: %v", err)
	}
}

// TestExplainReasons: a reason that the planner has and Explain has no sentence for leaves the user with a catchword.
func TestExplainReasons(t *testing.T) {
	t.Parallel()
	known := wtcache.CoarseReasons()
	literal := regexp.MustCompile(`(?:reason:\s+|reason = |b\.coarse\([^"\n]+, |KindOther:\s+|Kind\w+:\s+|return )"([A-Za-z][^"]+)"`)
	for _, file := range []string{"bind.go", "exec.go", "script.go", "autocommit.go", "rules/bind_targets.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range literal.FindAllStringSubmatch(string(source), -1) {
			if _, ok := known[m[1]]; !ok && !strings.HasSuffix(m[1], ": ") && m[1] != "DO block that ends transactions itself" {
				t.Errorf("%s gives the reason %q, and explain_words.go has no sentence for it", file, m[1])
			}
		}
	}
}
