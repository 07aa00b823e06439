package main

import (
	"os"
	"strings"
	"testing"
)

// TestProgram runs what the README tells to run. A failure means that who tries the example out sees an error, or something else.
func TestProgram(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	readme, err := os.ReadFile("README.md")
	check(t, err)
	dsns := map[string]string{"pgx": dsn, "wtcache": forWtcache(t, dsn, redisOfItsOwn(t))}
	for library := range libraries {
		for driver, dsn := range dsns {
			var said strings.Builder
			check(t, run(t.Context(), &said, library, driver, dsn), library, driver)
			if !strings.Contains(string(readme), "    "+said.String()) {
				t.Errorf("%s with %s: the program printed, other than its README says: %s", library, driver, said.String())
			}
		}
	}
}
