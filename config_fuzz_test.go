package wtcache

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// FuzzSplitDSN: a DSN is pgx's, and wtcache only takes its own keys out. What is left has
// to mean to pgx what the whole meant, less those keys; a byte lost or gained here is a
// connection to another server, or a password that no longer fits.
func FuzzSplitDSN(f *testing.F) {
	for _, dsn := range []string{
		"", " ", "=", "'", "\\", "wtcache_mode=off", "host=a wtcache_mode=off port=5433",
		"host='a b' password='it\\'s wtcache_mode=strict' wtcache_mode = 'off'  user=u",
		"password=a\\  wtcache_mode=off", "wtcache_mode='off'host=a", "host= wtcache_mode=off",
		"registeredConnConfig0 wtcache_mode=off", "host=a\twtcache_rules=r\nuser=u ",
		"wtcache_mode=off wtcache_mode=off", "wtcache_nosuch=1", "user=u wtcache_mode='off",
		"postgres://u:p%40@h1:1,h2:2/d?a=b&wtcache_mode=off&c=d", "postgresql:///?wtcache_mode=off",
		"postgres://h/d?wtcache%5Fmode=off", "postgres://h/d?&&wtcache_mode=&x", "postgres://h/d?wtcache_rules=%zz",
		"host=a wtcache_read_replica='host=b password=\\'it\\\\s\\'' wtcache_read_replica_applied=true",
		"postgres://h/d?wtcache_read_replica=postgres%3A%2F%2Fu%3Ap%40r%2Fd%3Fa%3Db&c=d",
		"postgres://h/d?wtcache_rules=a+b", "registeredConnConfig0 wtcache_mode=off ",
	} {
		f.Add(dsn)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		base, found, err := splitDSN(dsn)
		if err != nil {
			return
		}
		for key := range found {
			if settings[key] == nil {
				t.Errorf("%q was taken out as a setting", key)
			}
		}
		if len(found) == 0 && base != dsn {
			t.Errorf("nothing was taken out of %q and %q is left", dsn, base)
		}
		if again, more, err := splitDSN(base); err != nil || len(more) > 0 || again != base {
			t.Errorf("what is left of %q is %q, of which %q is left: %v %v", dsn, base, again, more, err)
		}
		compareWithPgx(t, dsn, base, found)
	})
}

func compareWithPgx(t *testing.T, dsn, base string, found map[string]string) {
	t.Helper()
	if looksAtFiles(dsn) {
		return
	}
	whole, err := pgx.ParseConfig(dsn)
	if err != nil {
		return
	}
	for key := range whole.RuntimeParams {
		if strings.ContainsAny(key, dsnSpace) {
			return // pgx reads "name key = value" as one key; to us the name is a registered configuration's
		}
	}
	rest, err := pgx.ParseConfig(base)
	if err != nil {
		t.Fatalf("pgx takes %q and not what is left of it, %q: %v", dsn, base, err)
	}
	for key, value := range found {
		seen, ok := whole.RuntimeParams[key]
		// pgx unescapes \\ and \' alone, libpq every character.
		if !ok || seen != value && !strings.Contains(dsn, `\`) {
			t.Errorf("%s of %q is %q, and to pgx %q", key, dsn, value, seen)
		}
	}
	maps.DeleteFunc(whole.RuntimeParams, func(key, _ string) bool { _, taken := found[key]; return taken })
	if !reflect.DeepEqual(view(whole), view(rest)) {
		t.Errorf("%q\nis to pgx %q\nand what is left, %q,\nis %q", dsn, view(whole), base, view(rest))
	}
}

// looksAtFiles says whether pgx would read files or services that a DSN names.
func looksAtFiles(dsn string) bool {
	lower := strings.ToLower(dsn)
	return strings.Contains(lower, "ssl") || strings.Contains(lower, "file") || strings.Contains(lower, "service")
}

// view is all of a configuration that a DSN decides.
func view(c *pgx.ConnConfig) []string {
	v := []string{c.Host, string(rune(c.Port)), c.Database, c.User, c.Password, c.ConnectTimeout.String(), c.DefaultQueryExecMode.String()}
	for _, f := range c.Fallbacks {
		v = append(v, f.Host, string(rune(f.Port)))
	}
	for _, key := range slices.Sorted(maps.Keys(c.RuntimeParams)) {
		v = append(v, key, c.RuntimeParams[key])
	}
	return v
}
