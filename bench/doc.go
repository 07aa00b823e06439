// Command bench measures what wtcache costs against the code that it replaces, on a Postgres with fsync on and a Redis, both
// started for it:
//
//	go run . run -o results.txt     # every measure at 1, 8 and 32 connections
//	go run . report results.txt     # tables and plots from it
//
// Ways that are compared take turns in short slices of one run, so that the machine's moods meet all of them alike; where
// the moods count for more than the ways, single executions take turns. What counts is the ratio of two ways in the same
// round; results.txt has one line a way and round in Go's benchmark format, for benchstat.
//
// Beside wtcache, pgx alone and caches written by hand stands the least that any fence before the statement costs: a SET to
// Redis before it and a SET after it, which check nothing.
//
// It is a module of its own, so that what it needs stays out of wtcache's.
package main
