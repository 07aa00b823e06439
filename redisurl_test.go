package wtcache

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Clients that are made from a URL must give up with their callers, repeat nothing and
// notice a dead server soon; what the URL says of the rest stays.
func TestRedisURLSettings(t *testing.T) {
	for rawURL, check := range map[string]func(redis.UniversalClient) bool{
		"redis://h:1/2": func(c redis.UniversalClient) bool {
			o := c.(*redis.Client).Options()
			// go-redis keeps "none" as 0.
			return o.Addr == "h:1" && o.DB == 2 && o.ContextTimeoutEnabled && o.MaxRetries == 0 && o.DialTimeout == redisDialTimeout && o.DialerRetries == 1
		},
		"unix:///run/redis.sock?dial_timeout=7s&max_retries=5": func(c redis.UniversalClient) bool {
			o := c.(*redis.Client).Options()
			return o.Network == "unix" && o.ContextTimeoutEnabled && o.MaxRetries == 0 && o.DialTimeout == 7*time.Second
		},
		"redis://u:p@h1:1?addr=h2:2&addr=h3:3&pool_size=9&dialer_retries=4": func(c redis.UniversalClient) bool {
			o := c.(*redis.ClusterClient).Options()
			return len(o.Addrs) == 3 && o.Username == "u" && o.PoolSize == 9 && o.ContextTimeoutEnabled && o.MaxRetries == -1 &&
				o.ClusterStateReloadInterval == clusterReload && !o.ReadOnly && o.MaxRedirects == 3 && o.DialTimeout == redisDialTimeout && o.DialerRetries == 4
		},
		"rediss://h1:1/3?master_name=main&addr=h2:2&username=u&password=p": func(c redis.UniversalClient) bool {
			o := c.(*redis.Client).Options()
			return o.Addr == "FailoverClient" && o.DB == 3 && o.Username == "u" && o.Password == "p" && o.TLSConfig != nil && o.ContextTimeoutEnabled &&
				o.MaxRetries == 0 && o.OnConnect != nil && o.DialTimeout == redisDialTimeout && o.DialerRetries == 1
		},
	} {
		client, err := openRedis(rawURL)
		if err != nil {
			t.Errorf("%s: %v", rawURL, err)
			continue
		}
		if !check(client) {
			t.Errorf("%s: the client's settings are not as they should be: %+v", rawURL, client)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A URL that asks for reads from replicas asks for old rows, and must be told so at
// Open; the rest of what cannot work, too, without a panic and without a password.
func TestRedisURLRefusals(t *testing.T) {
	for rawURL, want := range map[string]string{
		"redis://h:1?addr=h:2&read_only=true":                       "replicas",
		"redis://h:1?addr=h:2&route_by_latency=true":                "replicas",
		"redis://h:1?addr=h:2&route_randomly=true":                  "replicas",
		"redis://h:1?master_name=m&replica_only=true":               "replicas",
		"redis://h:1?master_name=m&route_by_latency=true":           "replicas",
		"redis://h:1?master_name=m&route_randomly=true":             "replicas",
		"redis://h:1?master_name=":                                  "master_name",
		"redis://:secret@h:1?addr=h2":                               "addr",
		"redis://:secret@h:1?master_name=m&password=secret&rout=st": "rout",
		"unix:///run/redis.sock?addr=h:2":                           "scheme",
	} {
		client, err := openRedis(rawURL)
		if err == nil {
			client.Close()
			t.Errorf("%s was accepted", rawURL)
			continue
		}
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", rawURL, err)
		}
	}
}

var redisURL = regexp.MustCompile("`((?:rediss?|unix)://[^`]*)`")

// The README's URLs must be such as can be copied.
func TestRedisURLsOfTheReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, m := range redisURL.FindAllStringSubmatch(string(text), -1) {
		client, err := openRedis(m[1])
		if err != nil {
			t.Errorf("%s: %v", m[1], err)
			continue
		}
		switch c := client.(type) {
		case *redis.ClusterClient:
			kinds["Cluster"]++
		case *redis.Client:
			kinds[map[bool]string{true: "Sentinel", false: "single"}[c.Options().Addr == "FailoverClient"]]++
		}
		client.Close()
	}
	if kinds["single"] == 0 || kinds["Cluster"] == 0 || kinds["Sentinel"] == 0 {
		t.Errorf("the README shows %v, want one of each at least", kinds)
	}
}
