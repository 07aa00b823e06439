package wtcache_test

import (
	"context"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
)

// A reader inside a transaction that holds the pool's only connection must get its hit,
// not wait for itself, also when the catalogue is due to be looked at again.
func TestHitNeedsNoConnection(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	l.warm(1)
	l.db.SetMaxOpenConns(1)
	tx, err := l.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	wtcache.CatalogueChanged(l.db)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var row map[string]any
	read, err := l.cache.Get(ctx, "accounts", &row, 1)
	if err != nil || !read.FromCache {
		t.Errorf("from cache: %v, %v", read.FromCache, err)
	}
}
