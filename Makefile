# Needs Go and a C compiler; `make test` and `make demo` install Postgres and Redis where they are missing.

GO          ?= go
PKGS        ?= ./...
TESTFLAGS   ?=
# Tests at a time in a package: they wait for servers and for fences more than they compute.
PARALLEL    ?= 6
TIMEOUT     ?= 60m
FUZZTIME    ?= 30s
BENCHTIME   ?= 1s
# Of "make torture": how long, how Redis is run (single, sentinel, cluster), and further arguments (-h lists them).
TIME        ?= 10m
TOPOLOGY    ?= single
ARGS        ?=
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# The release of Go whose new driver interfaces are behind a build tag. The go command downloads it.
GONEXT      ?= go1.27.0
WITHSERVERS := bin/withservers

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Built rather than run by "go run", which would turn every exit code into 1 and swallow signals.
.PHONY: $(WITHSERVERS)
$(WITHSERVERS):
	@$(GO) build -o $@ ./internal/cmd/withservers

.PHONY: servers
servers:
	@sh scripts/ensure-servers.sh >&2

.PHONY: demo
demo: servers $(WITHSERVERS) ## the small shop, first with a hand-written dual write, then through wtcache
	@$(WITHSERVERS) -- $(GO) run ./examples/shop/demo

.PHONY: test
test: servers vet format-check race compare-test ## vet, gofmt and every test, with the race detector

.PHONY: race
race: servers $(WITHSERVERS) ## every test, with the race detector
	@echo "==> go test -race $(PKGS)"
	@$(WITHSERVERS) -- $(GO) test -race -parallel $(PARALLEL) -timeout $(TIMEOUT) $(TESTFLAGS) $(PKGS)

.PHONY: integration
integration: servers $(WITHSERVERS) ## every test, never from the test cache; a missing server is a failure
	@echo "==> go test -race -count=1 $(PKGS), servers required"
	@WTCACHE_TEST_REQUIRE=1 $(WITHSERVERS) -- $(GO) test -race -count=1 -parallel $(PARALLEL) -timeout $(TIMEOUT) $(TESTFLAGS) $(PKGS)

.PHONY: go127
go127: servers $(WITHSERVERS) ## vet and the conformance suite under Go 1.27, which is downloaded
	@echo "==> $(GONEXT): go vet $(PKGS) and the conformance suite"
	@GOTOOLCHAIN=$(GONEXT) $(GO) version
	@files=$$(GOTOOLCHAIN=$(GONEXT) $(GO) list -f '{{.GoFiles}}' . ./internal/drivertest ./internal/fakedriver | grep -Ec '[[ ](rows|scan|scanner)_go1\.27\.go'); \
		if [ "$$files" != 3 ]; then echo "$(GONEXT) does not build the files for Go 1.27"; exit 1; fi
	@GOTOOLCHAIN=$(GONEXT) $(GO) vet $(PKGS)
	@GOTOOLCHAIN=$(GONEXT) WTCACHE_TEST_REQUIRE=1 $(WITHSERVERS) -- $(GO) test -count=1 -parallel $(PARALLEL) -timeout $(TIMEOUT) -run '^TestConformance' . ./internal/drivertest ./internal/fakedriver

.PHONY: fuzz
fuzz: servers $(WITHSERVERS) ## every fuzz target for FUZZTIME (30s)
	@$(WITHSERVERS) -- sh scripts/fuzz.sh $(FUZZTIME) $(PKGS)

.PHONY: explore
explore: servers $(WITHSERVERS) ## every interleaving of the protocol's large programs (half an hour or more; docs/PROTOCOL.md)
	@$(WITHSERVERS) -- $(GO) test -count=1 -v -parallel 1 -timeout 4h ./cachesync -run Explore -explore.long

.PHONY: torture
torture: servers ## everything that goes wrong in production, for TIME (10m) on TOPOLOGY (single); docs/TORTURE.md
	@$(GO) build -o bin/torture ./internal/torture/cmd/torture
	@bin/torture -time $(TIME) -topology $(TOPOLOGY) $(ARGS)

.PHONY: bench
bench: servers $(WITHSERVERS) ## every benchmark for BENCHTIME (1s)
	@$(WITHSERVERS) -- $(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) $(PKGS)

# Of "make compare": see bench/main.go.
COMPARE     ?=

.PHONY: compare
compare: servers ## what wtcache costs against the code that it replaces (docs/BENCHMARKS.md); best on an idle machine
	@cd bench && $(GO) run . run -o ../docs/benchmarks/results.txt $(COMPARE)
	@$(MAKE) --no-print-directory compare-report

.PHONY: compare-report
compare-report: ## the tables and plots of docs/BENCHMARKS.md from docs/benchmarks/results.txt
	@cd bench && $(GO) run . report -doc ../docs/BENCHMARKS.md -plots ../docs/benchmarks ../docs/benchmarks/results.txt

.PHONY: compare-test
compare-test: servers ## that each comparison still runs, and that what is to allocate nothing does not
	@echo "==> go vet and go test in bench"
	@cd bench && $(GO) vet ./... && $(GO) test ./...

.PHONY: lint
lint: vet format-check ## vet, gofmt and staticcheck
	@echo "==> staticcheck $(PKGS)"
	@$(GO) run $(STATICCHECK) $(PKGS)
	@cd bench && $(GO) run $(STATICCHECK) ./...

.PHONY: generate
generate: ## write again what is generated: the rule files' JSON Schema
	$(GO) generate $(PKGS)

.PHONY: vet
vet:
	@echo "==> go vet $(PKGS)"
	@$(GO) vet $(PKGS)

.PHONY: format-check
format-check:
	@echo "==> gofmt"
	@wrong=$$(gofmt -l .); \
		if [ -n "$$wrong" ]; then echo "not formatted by gofmt:"; echo "$$wrong"; exit 1; fi

.PHONY: clean
clean:
	rm -rf bin
