#!/usr/bin/env bash
# The one test command: formatting, vet, lint and every test with the race
# detector, in every module. It needs Go and git; programs that some tests
# drive (Chromium, promtool, graphviz, Node.js) are named and skipped where
# they are missing, but never where CI is set.
#
#   ./test.sh              all of it
#   ./test.sh MODULE...    only these modules, for example: ./test.sh . examples
#   ./test.sh -lint [MODULE...]   all but the tests
#
# With FUZZTIME set, for example to 30s, each fuzz target then runs for that long.
set -euo pipefail
cd "$(dirname "$0")"
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"

tests=true
[ "${1:-}" != -lint ] || { tests=false; shift; }

# `go test ./...` at the root skips nested modules silently, so each is named.
# go.work changes versions, so only the examples, which need it, see it.
modules=(. examples internal/bench internal/interop internal/tools)
[ $# -eq 0 ] || modules=("$@")

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

step() { # step NAME COMMAND...: runs it and says how long it took
  local name=$1 began=$SECONDS
  shift
  echo "=== $name"
  "$@"
  echo "--- $name: $((SECONDS - began)) s"
}

in_module() { # in_module DIR COMMAND...
  local dir=$1
  shift
  if [ "$dir" = examples ]; then (cd "$dir" && "$@"); else (cd "$dir" && GOWORK=off "$@"); fi
}

build_tools() {
  GOWORK=off go -C internal/tools build -o "$tools/" mvdan.cc/gofumpt honnef.co/go/tools/cmd/staticcheck
}

formatted() {
  local list
  list=$(git ls-files --cached --others --exclude-standard '*.go' | grep -v '\.pb\.go$' | while read -r f; do [ ! -e "$f" ] || echo "$f"; done | xargs "$tools/gofumpt" -l)
  [ -z "$list" ] || { echo "not formatted (run gofumpt -w):"; echo "$list"; return 1; }
}

tidy() { in_module "$1" env GOWORK=off go mod tidy -diff; }

fixed() { # go fix proposes nothing
  local diff
  diff=$(in_module "$1" go fix -diff ./... 2>&1) || { echo "$diff"; return 1; }
  [ -z "$diff" ] || { echo "$diff"; return 1; }
}

fuzz() { # each target of a module, one after the other
  local file name
  (cd "$1" && git ls-files --cached --others --exclude-standard '*_test.go') | while read -r file; do
    # A nested module's files belong to that module.
    [ "$1" != . ] || case "$file" in examples/*|internal/*) continue ;; esac
    { grep -oE '^func Fuzz[A-Za-z0-9]+' "$1/$file" || true; } | while read -r _ name; do
      in_module "$1" go test -run '^$' -fuzz "^$name\$" -fuzztime "$FUZZTIME" "./$(dirname "$file")" </dev/null
    done
  done
}

step "build the lint tools" build_tools
step "gofumpt" formatted
for module in "${modules[@]}"; do
  step "$module: go mod tidy" tidy "$module"
  step "$module: go vet" in_module "$module" go vet ./...
  step "$module: go fix" fixed "$module"
  step "$module: staticcheck" in_module "$module" "$tools/staticcheck" ./...
  ! $tests || step "$module: go test -race" in_module "$module" go test -race -timeout 20m ./...
  if [ "$module" = . ]; then # what the race detector would make ten times slower
    ! $tests || step "simulations" in_module . go test -timeout 20m ./flowcontrol
  fi
done
if $tests && [ -n "${FUZZTIME:-}" ]; then
  for module in . examples; do step "$module: fuzz, $FUZZTIME each" fuzz "$module"; done
fi
echo "all checks passed in $SECONDS s"
