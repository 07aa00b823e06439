//go:build !go1.27

package drivertest

import "github.com/wtcache/wtcache/internal/fakedriver"

// Before Go 1.27 no base scans by itself.
var scanScenarios []scenario

const scannerFeature fakedriver.Feature = 0

func scanner(any) bool { return false }
