package wtcache

// HasHeaders is for tests.
var HasHeaders = hasHeaders
