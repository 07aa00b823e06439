package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/fakedriver"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A base connector that was made for nothing is given back. When this fails, a program that tries settings leaks a pool of
// the base's with each try.
func TestFaultySettingsCloseTheBaseConnector(t *testing.T) {
	fake, name := &fakedriver.Base{}, testenv.KeyPrefix(t)
	wtcache.Register(name, fakedriver.ContextDriver{DSNDriver: fakedriver.DSNDriver{Base: fake}, Closes: true}, wtcache.Config{})
	if _, err := sql.Open(name, ""); !errors.Is(err, wtcache.ErrConfig) {
		t.Errorf("sql.Open without settings gave %v", err)
	}
	if opened, closed := fake.Count(fakedriver.OpenConnector), fake.Count(fakedriver.CloseBase); opened != closed {
		t.Errorf("%d connectors of the base were opened and %d closed", opened, closed)
	}
}

// A connection that a program opens without a pool ends with all that it has: nobody else is there to close its client of
// Redis. When this fails, each such connection leaves one behind.
func TestConnectionWithoutAPoolLeavesNothingBehind(t *testing.T) {
	ctx := t.Context()
	b, name := openFake(t, fakedriver.Required), strings.TrimSuffix(testenv.KeyPrefix(t), ":")
	u, err := url.Parse(testenv.RealRedis(t))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("client_name", name)
	u.RawQuery = q.Encode()
	config := conformanceConfig(t, mockSchema+".users")
	config.Redis, config.RedisURL = nil, u.String()
	looking := redisClient(t, testenv.RealRedis(t))
	connected := func() bool {
		list, err := looking.ClientList(context.Background()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(list, "name="+name+" ")
	}
	b.Script("UPDATE users SET name = 'x' WHERE id = 1", fakedriver.Reply{Affected: 1})
	wtcache.Register(name, b.Connector.Driver(), config)
	db, err := sql.Open(name, "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for range 2 {
		conn, err := db.Driver().Open("")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.(driver.ExecerContext).ExecContext(ctx, "UPDATE users SET name = 'x' WHERE id = 1", nil); err != nil {
			t.Fatal(err)
		}
		if !connected() {
			t.Fatal("the write did not reach Redis: there is nothing to be left behind")
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		eventually(t, "the connection's client of Redis is gone", func() bool { return !connected() })
	}
}
