//go:build race

package main

// The shop is built as the tests are: their compiled packages are there already, the others would take minutes.
var testBuildFlags = []string{"-race"}
