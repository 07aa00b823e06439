#!/bin/sh
# Runs every fuzz target for the time given, one after the other, since "go test -fuzz" takes one target at a time.
#
# usage: fuzz.sh DURATION PACKAGE...
set -eu
duration=$1
shift

go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' "$@" | while read -r package; do
	targets=$(go test -run '^$' -list '^Fuzz' "$package" | grep '^Fuzz' || true)
	for target in $targets; do
		echo "==> $package $target ($duration)"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" "$package" </dev/null
	done
done
