package draft_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/wtcache/wtcache/rules/draft"
)

var update = flag.Bool("update", false, "write the golden files again")

// TestFilmstore holds the drafts for the sample schema against what a reviewer has read: every line
// here is one that users find in their repositories. They load and bind; a film that is written
// through them is found under its keys, without what was left out.
func TestFilmstore(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, sample(t, "schema.sql")+sample(t, "data.sql"))
	drafted := d.draft(draft.Options{})
	archive := &txtar.Archive{Comment: []byte("What init drafts for examples/filmstore, and what it does not.\n\n")}
	for _, f := range drafted.Files {
		archive.Files = append(archive.Files, txtar.File{Name: f.Name, Data: []byte(f.Text)})
	}
	var skipped strings.Builder
	for _, s := range drafted.Skipped {
		skipped.WriteString(s.Name + ", a " + s.Kind + ": " + s.Reason + "\n")
	}
	archive.Files = append(archive.Files, txtar.File{Name: "skipped", Data: []byte(skipped.String())})
	golden(t, "testdata/filmstore.txtar", txtar.Format(archive))

	folder := write(t, drafted)
	set := d.bind(folder)
	db, cache := openCached(t, d.dsn, folder)
	if _, err := db.ExecContext(t.Context(), "UPDATE film SET title = 'Another Title' WHERE film_id = 7"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"film:7", "film:slug:silent-kingdom-7"} {
		payload, err := cache.Get(t.Context(), key).Result()
		if err != nil || !strings.Contains(payload, `"title":"Another Title"`) || strings.Contains(payload, `"search"`) {
			t.Errorf("%s holds %q: %v", key, payload, err)
		}
	}
	if len(set.Tables) != len(drafted.Files) {
		t.Errorf("%d tables are bound of %d", len(set.Tables), len(drafted.Files))
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want, err := os.ReadFile(name); err != nil || !bytes.Equal(want, got) {
		t.Errorf("%s is not what was drafted (%v); look at the difference after go test -run %s -update:\n%s", name, err, t.Name(), got)
	}
}

const oddDDL = `
CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY, note text); CREATE TABLE sales.users (id int PRIMARY KEY);
CREATE SCHEMA ops; CREATE TABLE ops.orders (id int PRIMARY KEY);
CREATE TABLE sessions (api_token text PRIMARY KEY, user_id int);
CREATE TABLE schema_migrations (version text PRIMARY KEY);
CREATE TABLE keyless (a int);
CREATE TABLE late (a int UNIQUE DEFERRABLE, b text, c float8 UNIQUE, d int);
CREATE UNIQUE INDEX late_b ON late (lower(b)); CREATE UNIQUE INDEX late_d ON late (d) WHERE d > 0;
CREATE TABLE guarded (id int PRIMARY KEY); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY);
CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id);
CREATE TABLE parts_1_a PARTITION OF parts_1 DEFAULT;
CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing; CREATE FOREIGN TABLE afar (id int) SERVER nowhere;
CREATE EXTENSION hstore; CREATE TABLE extended (id int PRIMARY KEY); ALTER EXTENSION hstore ADD TABLE extended;
CREATE VIEW plain AS SELECT * FROM users; CREATE VIEW upon AS SELECT id, name FROM plain WHERE id > 0; CREATE VIEW one AS SELECT 1 AS one;
CREATE VIEW narrow AS SELECT id FROM users; CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM users;`

// TestSkipped: a table that is left out without a word is one that its team believes to be cached.
func TestSkipped(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, oddDDL)
	got := d.draft(draft.Options{})
	var files []string
	for _, f := range got.Files {
		files = append(files, f.Name)
	}
	if want := "ops.orders.yaml parent.yaml parts.yaml users.yaml sales.orders.yaml sales.users.yaml"; strings.Join(files, " ") != want {
		t.Errorf("drafted are %s, want %s", strings.Join(files, " "), want)
	}
	if via := file(t, got, "users.yaml").Via; !slices.Equal(via, []string{"public.plain", "public.upon"}) {
		t.Errorf("users are written via %v", via)
	}
	for name, want := range map[string]string{
		"public.sessions": "looks like a secret", "public.schema_migrations": "migration", "public.keyless": "no primary key",
		"public.late": "late_a_key: it is deferrable", "public.guarded": "row-level security", "public.scratch": "unlogged", "public.child": "inherits from public.parent",
		"public.parts_1": "those of public.parts", "public.parts_1_a": "those of public.parts", "public.afar": "elsewhere", "public.extended": "extension hstore",
		"public.one": "no rows of its own", "public.narrow": "does not show name", "public.counted": "REFRESH", "wtcache.outbox": "outbox", "wtcache.watch": "outbox",
	} {
		if r := reason(got, name); !strings.Contains(r, want) {
			t.Errorf("%s is left out because %q; want %q", name, r, want)
		}
	}
	for _, part := range []string{"late_b: it is over an expression", "late_d: it is partial", "late_c_key: c (float8) cannot stand in a key"} {
		if r := reason(got, "public.late"); !strings.Contains(r, part) {
			t.Errorf("late is left out because %q; want %q", r, part)
		}
	}
	if notes := strings.Join(file(t, got, "parent.yaml").Notes, " "); !strings.Contains(notes, "tables that inherit from it") {
		t.Errorf("of a key that a child's row may have, too, it says %q", notes)
	}
	d.bind(write(t, got))
}

// TestOnly: who names tables gets these and no others, and hears of a slip of the pen instead of an
// empty folder.
func TestOnly(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, oddDDL+`CREATE TABLE "Mixed" (id int PRIMARY KEY); CREATE TABLE mixed (id int PRIMARY KEY); CREATE TABLE "Alone.x" (id int PRIMARY KEY)`)
	for _, c := range []struct {
		options draft.Options
		files   string // or the error's words
	}{
		{draft.Options{Only: []string{"public.users", "sales.orders"}}, "users.yaml sales.orders.yaml"},
		{draft.Options{Only: []string{"guarded", "scratch", "child", "schema_migrations"}}, "child.yaml guarded.yaml schema_migrations.yaml scratch.yaml"},
		{draft.Options{Only: []string{"keyless"}}, ""},
		{draft.Options{Only: []string{"Mixed"}}, "Mixed.yaml"},
		{draft.Options{Only: []string{`public."Mixed"`, "mixed"}}, "Mixed.yaml mixed_2.yaml"},
		{draft.Options{Only: []string{"ALONE.X"}}, "Alone_x.yaml"},
		{draft.Options{Schemas: []string{"sales"}}, "sales.orders.yaml sales.users.yaml"},
		{draft.Options{Schemas: []string{"sales"}, Only: []string{"orders"}}, "sales.orders.yaml"},
		{draft.Options{Schemas: []string{"sales", "ops"}, Except: []string{"orders"}}, "sales.users.yaml"},
		{draft.Options{Only: []string{"usres"}}, `"usres" is no table or view of the database, or of the schemas that were named; did you mean users?`},
		{draft.Options{Only: []string{"sales.oders"}}, `did you mean sales.orders?`},
		{draft.Options{Only: []string{"shop.orders"}}, `did you mean ops.orders or sales.orders?`},
		{draft.Options{Only: []string{"orders"}}, `"orders" is in several schemas; did you mean ops.orders or sales.orders?`},
		{draft.Options{Except: []string{"usres"}}, `did you mean users?`},
		{draft.Options{Schemas: []string{"sale"}}, `"sale" is no schema that holds tables of your own; did you mean sales?`},
	} {
		got, err := draft.New(t.Context(), d.query, c.options)
		var wrong *draft.NameError
		if err != nil {
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.files) || c.files == "" {
				t.Errorf("%+v: %v, want %s", c.options, err, c.files)
			}
			continue
		}
		var files []string
		for _, f := range got.Files {
			files = append(files, f.Name)
		}
		if strings.Join(files, " ") != c.files {
			t.Errorf("%+v drafts %v, want %s", c.options, files, c.files)
		}
	}
}

// TestExisting: a second init must neither give a table two rules nor two tables one key.
func TestExisting(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, `CREATE TABLE users (id int PRIMARY KEY, mail text UNIQUE); CREATE TABLE orders (id int PRIMARY KEY, code text UNIQUE);
		CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE tags (id text PRIMARY KEY)`)
	folder := t.TempDir()
	for name, text := range map[string]string{
		"people.yaml": "table: public.users\nkey: \"orders:code:{mail}\"\n",   // the table of users.yaml, and keys that orders would have
		"tags.yaml":   "table: public.items\nkey: \"items:{id}\"\n",           // the file that tags would have
		"orders.yaml": "table: public.orders\nkey: \"o:{id}\"\nttl: \"1h\"\n", // an older draft
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	existing, faulty, err := draft.Existing(folder)
	if err != nil || len(faulty) > 0 || len(existing) != 3 {
		t.Fatalf("%d rules exist, %v are faulty: %v", len(existing), faulty, err)
	}
	got := d.draft(draft.Options{Existing: existing})
	if r := reason(got, "public.users"); !strings.Contains(r, "people.yaml") {
		t.Errorf("users are left out because %q", r)
	}
	if r := reason(got, "public.items"); !strings.Contains(r, "tags.yaml") {
		t.Errorf("items are left out because %q", r)
	}
	if keys := file(t, got, "orders.yaml").Entries; keys[1].Key != "public.orders:code:{code}" {
		t.Errorf("orders have the keys %v", keys)
	}
	file(t, got, "tags_2.yaml")
	for _, f := range got.Files {
		if _, err := f.Write(folder, draft.Replace); err != nil {
			t.Fatal(err)
		}
	}
	d.bind(folder)
}

// TestSecrets: a secret that is not recognised is in the cache of everybody who trusts a draft, and a
// harmless column that is taken for one makes the rule worth less.
func TestSecrets(t *testing.T) {
	t.Parallel()
	secret := strings.Fields(`password Password user_password userpassword passwd pwd pass_phrase passphrase password_hash passwordHash hashed_pw salt secret client_secret
		clientSecret api_key apiKey APIKey x_api_key token access_token accessToken refreshtoken session_token csrf-token private_key privatekey ssn card_number cardNumber
		credit_card cvv otp_secret totp pin pin_hash mfa_seed recovery_codes credentials signing_key encrypted_name`)
	harmless := strings.Fields(`id name email key primary_key key_name slug passed passenger compass pinned spinner hashtag title tokenizer saltation asset_number number
		card_code cardinality option author address last_update notes pinterest`)
	var columns []string
	for _, c := range append(slices.Clone(secret), harmless...) {
		columns = append(columns, `"`+c+`" text`)
	}
	d := newDatabase(t, "CREATE TABLE t (n int PRIMARY KEY, "+strings.Join(columns, ", ")+")")
	var omitted []string
	for _, o := range file(t, d.draft(draft.Options{}), "t.yaml").Omitted {
		omitted = append(omitted, o.Column)
	}
	slices.Sort(omitted)
	slices.Sort(secret)
	if !slices.Equal(omitted, secret) {
		t.Errorf("left out are\n%v\nwant\n%v", omitted, secret)
	}
}
