package wtcache

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wtcache/wtcache/rules"
)

// settingPrefix marks the DSN keys that are wtcache's own.
const settingPrefix = "wtcache_"

// settings are the DSN keys, each with an environment variable of the same name
// in capitals (WTCACHE_REDIS, …). The DSN wins.
var settings = map[string]func(*Config, string) error{
	"wtcache_redis":         func(c *Config, v string) error { c.RedisURL = v; return nil },
	"wtcache_redis_replica": func(c *Config, v string) error { c.RedisReplicaURL = v; return nil },
	"wtcache_fill_wait": func(c *Config, v string) (err error) {
		if v == "0" || v == "0s" {
			c.FillWait = -1
			return nil
		}
		c.FillWait, err = parseDuration(v)
		return err
	},
	"wtcache_rules": func(c *Config, v string) error { c.RulesPath = v; return nil },
	"wtcache_mode":  func(c *Config, v string) error { c.Mode = Mode(v); return nil },
	"wtcache_fence_life": func(c *Config, v string) (err error) {
		c.FenceLife, err = parseDuration(v)
		return err
	},
	"wtcache_redis_timeout": func(c *Config, v string) (err error) {
		c.RedisTimeout, err = parseDuration(v)
		return err
	},
	"wtcache_eviction": func(c *Config, v string) error {
		if v != "accept" && v != "refuse" {
			return fmt.Errorf("%q is neither refuse nor accept", v)
		}
		c.AcceptEviction = v == "accept"
		return nil
	},
	"wtcache_max_captured_rows": func(c *Config, v string) (err error) {
		c.MaxCapturedRows, err = parseCount(v)
		return err
	},
	"wtcache_outbox": func(c *Config, v string) error { c.Outbox = v; return nil },
	"wtcache_max_queued_keys": func(c *Config, v string) (err error) {
		c.MaxQueuedKeys, err = parseCount(v)
		return err
	},
	"wtcache_watch": func(c *Config, v string) (err error) {
		if v == "off" {
			c.Watch = -1
			return nil
		}
		c.Watch, err = parseDuration(v)
		return err
	},
	"wtcache_read_replica": func(c *Config, v string) error { c.ReadReplicaDSN = v; return nil },
	"wtcache_read_replica_applied": func(c *Config, v string) error {
		if v != "true" && v != "false" {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		c.ReadReplicaApplied = v == "true"
		return nil
	},
}

func parseCount(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is not a positive whole number", v)
	}
	return n, nil
}

func parseDuration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration; write it like 250ms or 30s", v)
	case d <= 0:
		return 0, fmt.Errorf("%q is not above zero; write it like 250ms or 30s", v)
	}
	return d, nil
}

// ParseDSN takes wtcache's own settings out of a DSN, adds those of the environment that the DSN does not
// hold, and gives the rest of the DSN for the base driver: what sql.Open("wtcache", dsn) makes of it.
// The Config is not validated yet. Errors wrap ErrConfig.
func ParseDSN(dsn string) (base string, cfg Config, err error) { return configFromDSN(dsn) }

// configFromDSN takes wtcache's own settings out of a DSN and gives the rest,
// byte for byte, for the base driver. Environment variables stand in for the
// keys that the DSN does not hold.
func configFromDSN(dsn string) (base string, cfg Config, err error) {
	base, found, err := splitDSN(dsn)
	if err != nil {
		return "", Config{}, err
	}
	for _, name := range settingNames() {
		value, ok := found[name]
		source := "DSN key " + name
		if !ok {
			env := strings.ToUpper(name)
			if value = os.Getenv(env); value == "" {
				continue
			}
			source = "environment variable " + env
		}
		if err := settings[name](&cfg, value); err != nil {
			return "", Config{}, configErrorf("%s: %w", source, err)
		}
	}
	return base, cfg, nil
}

func settingNames() []string {
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// splitDSN separates wtcache_ keys from the rest of a URL or of a keyword/value
// string. A name that stdlib.RegisterConnConfig gave may be followed by keyword/value
// pairs of ours.
func splitDSN(dsn string) (base string, found map[string]string, err error) {
	found = map[string]string{}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		return splitURL(dsn, found)
	}
	return splitKeywords(dsn, found)
}

// splitURL works on the raw query: parsing and printing the URL again would
// change what the base driver sees (several hosts, escapes in passwords).
func splitURL(dsn string, found map[string]string) (string, map[string]string, error) {
	head, query, ok := strings.Cut(dsn, "?")
	if !ok {
		return dsn, found, nil
	}
	var kept []string
	for _, pair := range strings.Split(query, "&") {
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, err := url.PathUnescape(rawKey) // not QueryUnescape: to pgx, as to libpq, "+" is no space
		if err != nil || !strings.HasPrefix(key, settingPrefix) {
			kept = append(kept, pair)
			continue
		}
		value, err := url.PathUnescape(rawValue)
		if err != nil {
			return "", nil, configErrorf("DSN key %s: %w", key, err)
		}
		if err := addSetting(found, key, value); err != nil {
			return "", nil, err
		}
	}
	if len(kept) == 0 {
		return head, found, nil
	}
	return head + "?" + strings.Join(kept, "&"), found, nil
}

func addSetting(found map[string]string, key, value string) error {
	if _, known := settings[key]; !known {
		hint := ""
		if near, ok := rules.Nearest(key, settingNames()); ok {
			hint = fmt.Sprintf("; did you mean %s?", near)
		}
		return configErrorf("DSN key %s is unknown%s; the keys are %s", key, hint, strings.Join(settingNames(), ", "))
	}
	if _, twice := found[key]; twice {
		return configErrorf("DSN key %s is given twice", key)
	}
	found[key] = value
	return nil
}

// splitKeywords walks `key = value` pairs by libpq's rules: values may be quoted
// with ', and a backslash escapes the next character.
// Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE
func splitKeywords(dsn string, found map[string]string) (string, map[string]string, error) {
	var kept strings.Builder
	for rest := dsn; strings.Trim(rest, dsnSpace) != ""; {
		pair := nextKeyword(rest)
		if strings.HasPrefix(pair.key, settingPrefix) {
			if err := addSetting(found, pair.key, pair.value); err != nil {
				return "", nil, err
			}
		} else {
			kept.WriteString(rest[:pair.end])
		}
		rest = rest[pair.end:]
	}
	if len(found) == 0 {
		return dsn, found, nil
	}
	return strings.TrimLeft(kept.String(), dsnSpace), found, nil
}

// keyword is one `key = value` pair; end is where the next one starts.
type keyword struct {
	key, value string
	end        int
}

const dsnSpace = " \t\n\r\f\v"

func nextKeyword(s string) keyword {
	i := len(s) - len(strings.TrimLeft(s, dsnSpace))
	start := i
	for i < len(s) && s[i] != '=' && !strings.ContainsRune(dsnSpace, rune(s[i])) {
		i++
	}
	key, keyEnd := s[start:i], i
	for i < len(s) && strings.ContainsRune(dsnSpace, rune(s[i])) {
		i++
	}
	if i >= len(s) || s[i] != '=' {
		return keyword{key: key, end: keyEnd}
	}
	for i++; i < len(s) && strings.ContainsRune(dsnSpace, rune(s[i])); i++ {
	}
	value, end := keywordValue(s, i)
	return keyword{key: key, value: value, end: end}
}

func keywordValue(s string, i int) (string, int) {
	var value strings.Builder
	quoted := i < len(s) && s[i] == '\''
	if quoted {
		i++
	}
	for ; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
		case quoted && s[i] == '\'':
			return value.String(), i + 1
		case !quoted && strings.ContainsRune(dsnSpace, rune(s[i])):
			return value.String(), i
		}
		value.WriteByte(s[i])
	}
	return value.String(), i
}
