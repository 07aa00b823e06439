package main

import "testing"

// TestProgram runs what the README tells to run. A failure means that who tries the example out sees an error.
func TestProgram(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	dsns := map[string]string{"pgx": dsn, "wtcache": forWtcache(t, dsn, redisOfItsOwn(t))}
	for library := range libraries {
		for driver, dsn := range dsns {
			check(t, run(t.Context(), library, driver, dsn), library, driver)
		}
	}
}
