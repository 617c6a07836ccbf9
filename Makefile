# Short names for what a contributor runs. ./test.sh is what counts.

.PHONY: test short lint fmt bench generate

test: ## every check and test of every module, with the race detector
	./test.sh

short: ## the library's tests without its simulations
	GOWORK=off go test -short ./...

lint: ## every check but the tests
	./test.sh -lint

fmt: ## format all Go files
	GOWORK=off go -C internal/tools run mvdan.cc/gofumpt -w ../..

bench: ## the hot paths, which allocate nothing
	GOWORK=off go test -run '^$$' -bench Hot ./...

generate: ## what is made from other files
	GOWORK=off go -C internal/tools run ./genproto
	GOWORK=off go generate ./...
