package testenv

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestMain turns the test binary into a process that starts servers and waits to be killed, for the tests that kill it.
func TestMain(m *testing.M) {
	if os.Getenv("TESTENV_VICTIM") == "1" {
		victim()
	}
	os.Exit(m.Run())
}

// victim prints where its servers are and waits. What it starts must go without any help of its own.
func victim() {
	env, err := Start(context.Background(), Options{})
	if err != nil {
		fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", " "))
		os.Exit(1)
	}
	fmt.Println("started", env.DatabaseURL, env.RedisURL)
	select {}
}

// withoutServers hides servers that the environment of the tests names, so that private ones are started.
func withoutServers(t *testing.T) {
	t.Helper()
	t.Setenv("WTCACHE_TEST_DATABASE_URL", "")
	t.Setenv("WTCACHE_TEST_REDIS_URL", "")
}

func connectable(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("the server does not answer: %v", err)
	}
}
