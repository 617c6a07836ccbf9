// Command mutants proves that the tests of flowcontrol's reference model find
// faults: it puts one at a time into a copy of the gate and runs them.
//
//	GOWORK=off go -C internal/tools run ./mutants           all of them, a few minutes
//	GOWORK=off go -C internal/tools run ./mutants -run walk those whose name contains it
//
// It prints which tests caught each one, and fails where one survives or its
// text is no longer in the gate.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A mutant is one fault: a text of a file, which occurs in it once, and what
// stands there instead.
type mutant struct {
	name, file string
	old, new   string
}

func main() {
	root := flag.String("root", "../..", "the repository's root `folder`")
	only := flag.String("run", "", "only mutants whose name contains `text`")
	tests := flag.String("tests", "TheGateDoes|TheBooks", "the tests to run, a `pattern`")
	flag.Parse()
	dir, err := filepath.Abs(filepath.Join(*root, "flowcontrol"))
	if err != nil {
		fail(err)
	}
	survived := 0
	for _, m := range mutants {
		if !strings.Contains(m.name, *only) {
			continue
		}
		by, err := m.run(dir, *tests)
		if err != nil {
			fail(fmt.Errorf("%s: %w", m.name, err))
		}
		if len(by) == 0 {
			survived++
			by = []string{"SURVIVED"}
		}
		fmt.Printf("%-60s %s\n", m.name, strings.Join(by, ", "))
	}
	if survived > 0 {
		fail(fmt.Errorf("%d survived", survived))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "mutants:", err)
	os.Exit(1)
}

// run returns the tests that fail with the fault in place.
func (m mutant) run(dir, tests string) (by []string, err error) {
	path := filepath.Join(dir, m.file)
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return nil, fmt.Errorf("its text occurs %d times in %s, want once", n, m.file)
	}
	scratch, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	changed := filepath.Join(scratch, m.file)
	overlay := filepath.Join(scratch, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-count=1", "-timeout=60s", "-run", tests, ".")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil, nil
	}
	for line := range strings.Lines(string(out)) {
		name, failed := strings.CutPrefix(line, "--- FAIL: ")
		switch {
		case failed:
			by = append(by, strings.Fields(name)[0])
		case strings.HasPrefix(line, "panic: "):
			by = append(by, strings.TrimSpace(line))
		}
	}
	if len(by) == 0 {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	slices.Sort(by)
	return slices.Compact(by), nil
}
