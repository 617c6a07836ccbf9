// Program mutate makes deliberate faults in the Go code of packages, one at a
// time, and runs the package's tests on each: a fault that no test notices
// survives, and is printed. The faults are those that cost the most to miss: a
// condition turned round or moved by one, a joined condition without one part, a
// call left out, a sum that is a difference.
//
//	go run ./internal/tools/mutate -n 20 ./flowcontrol ./connpool
//
// It changes no file: the go command sees the faults through an overlay.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A mutant replaces text[from:to] of a file.
type mutant struct {
	file     string
	line     int
	from, to int
	with     string
}

func main() {
	n := flag.Int("n", 20, "faults for each package, at random; 0: all that there are")
	seed := flag.Uint64("seed", 1, "of the choice")
	timeout := flag.Duration("timeout", time.Minute, "a test that takes longer has noticed the fault")
	args := flag.String("test", "-short", "arguments for go test")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "mutate: which packages? For example: ./flowcontrol")
		os.Exit(2)
	}
	survivors := 0
	for _, dir := range flag.Args() {
		left, err := run(context.Background(), dir, *n, *seed, *timeout, strings.Fields(*args))
		if err != nil {
			fmt.Fprintln(os.Stderr, "mutate:", err)
			os.Exit(2)
		}
		survivors += left
	}
	if survivors > 0 {
		os.Exit(1)
	}
}

// run tries n faults of one package, and returns how many no test noticed.
func run(
	ctx context.Context,
	dir string,
	n int,
	seed uint64,
	timeout time.Duration,
	args []string,
) (survivors int, err error) {
	mutants, err := find(dir)
	if err != nil {
		return 0, err
	}
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(mutants), func(i, j int) { mutants[i], mutants[j] = mutants[j], mutants[i] })
	tried, noticed, all := 0, 0, len(mutants)
	for _, m := range mutants {
		if n > 0 && tried == n {
			break
		}
		seen, compiled, err := try(ctx, dir, m, timeout, args)
		if err != nil {
			return 0, err
		}
		if !compiled {
			continue // the compiler has noticed it
		}
		tried++
		if seen {
			noticed++
			continue
		}
		text, _ := os.ReadFile(m.file)
		fmt.Printf("%s:%d: survives: %s  ->  %s\n", m.file, m.line, brief(string(text[m.from:m.to])), brief(m.with))
	}
	fmt.Printf("%s: %d of %d faults noticed, out of %d\n", dir, noticed, tried, all)
	return tried - noticed, nil
}

func brief(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if s == "" {
		return "nothing"
	}
	if r := []rune(s); len(r) > 70 {
		return string(r[:70]) + "..."
	}
	return s
}

// try runs the tests on one fault.
func try(
	ctx context.Context,
	dir string,
	m mutant,
	timeout time.Duration,
	args []string,
) (noticed, compiled bool, err error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return false, false, err
	}
	temp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return false, false, err
	}
	defer os.RemoveAll(temp)
	changed := filepath.Join(temp, "mutant.go")
	mutated := append(append(append([]byte(nil), text[:m.from]...), m.with...), text[m.to:]...)
	if err := os.WriteFile(changed, mutated, 0o600); err != nil {
		return false, false, err
	}
	path, err := filepath.Abs(m.file)
	if err != nil {
		return false, false, err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return false, false, err
	}
	list := filepath.Join(temp, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return false, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "vet", "-overlay", list, dir).CombinedOutput(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return true, false, nil
		}
		return false, false, fmt.Errorf("%w: %s", err, out)
	}
	test := append([]string{"test", "-overlay", list, "-count", "1", "-failfast"}, args...)
	return exec.CommandContext(ctx, "go", append(test, dir)...).Run() != nil, true, nil
}

// find lists the faults that can be made in the package's own files.
func find(dir string) (found []mutant, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			return nil, err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		at := func(p token.Pos) int { return set.Position(p).Offset }
		add := func(from, to token.Pos, with string) {
			found = append(found, mutant{name, set.Position(from).Line, at(from), at(to), with})
		}
		ast.Inspect(file, func(node ast.Node) bool {
			switch n := node.(type) {
			case *ast.IfStmt:
				add(n.Cond.Pos(), n.Cond.End(), "!("+string(text[at(n.Cond.Pos()):at(n.Cond.End())])+")")
			case *ast.BinaryExpr:
				if with, ok := swapped[n.Op]; ok {
					add(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), with)
				}
				if n.Op == token.LAND {
					add(n.Pos(), n.End(), string(text[at(n.X.Pos()):at(n.X.End())]))
				}
			case *ast.ExprStmt:
				add(n.Pos(), n.End(), "")
			case *ast.IncDecStmt:
				add(n.TokPos, n.TokPos+2, map[token.Token]string{token.INC: "--", token.DEC: "++"}[n.Tok])
			}
			return true
		})
	}
	return found, nil
}

var swapped = map[token.Token]string{
	token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">",
	token.EQL: "!=", token.NEQ: "==", token.ADD: "-", token.SUB: "+", token.LOR: "&&",
}
