package docstest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A name as the docs write it: a package, something that it exports, and perhaps
// a field or a method of that.
var name = regexp.MustCompile("`\\*?([a-z][a-z0-9]*)\\.([A-Z]\\w*)(?:\\.([A-Z]\\w*))?…?")

// TestNamesExist proves that every exported name of ours that the docs write as
// `package.Name` or `package.Name.Member` is there.
func TestNamesExist(t *testing.T) {
	known := exported(t)
	found := 0
	for _, file := range markdown(t) {
		for _, n := range name.FindAllStringSubmatch(prose(read(t, file)), -1) {
			members, ours := known[n[1]]
			if !ours {
				continue
			}
			found++
			of, there := members[n[2]]
			switch {
			case strings.HasSuffix(n[0], "…"): // several that begin so
			case !there:
				t.Errorf("%s writes %s.%s, which does not exist", file, n[1], n[2])
			case n[3] != "" && !of[n[3]]:
				t.Errorf("%s writes %s.%s.%s, which does not exist", file, n[1], n[2], n[3])
			}
		}
	}
	require.Greater(t, found, 50)
}

// exported lists, by package name, what packages export, with the members of each.
func exported(t *testing.T) map[string]map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == "internal" || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		if all[file.Name.Name] == nil {
			all[file.Name.Name] = map[string]map[string]bool{}
		}
		members := func(name string) map[string]bool {
			names := all[file.Name.Name]
			if names[name] == nil {
				names[name] = map[string]bool{}
			}
			return names[name]
		}
		for _, decl := range file.Decls {
			collect(decl, members)
		}
		return nil
	})
	require.NoError(t, err)
	delete(all, "main")
	return all
}

func collect(decl ast.Decl, members func(string) map[string]bool) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			members(d.Name.Name)
			return
		}
		receiver := d.Recv.List[0].Type
		if star, ok := receiver.(*ast.StarExpr); ok {
			receiver = star.X
		}
		if generic, ok := receiver.(*ast.IndexExpr); ok {
			receiver = generic.X
		}
		if ident, ok := receiver.(*ast.Ident); ok {
			members(ident.Name)[d.Name.Name] = true
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				for _, n := range s.Names {
					members(n.Name)
				}
			case *ast.TypeSpec:
				of := members(s.Name.Name)
				ast.Inspect(s.Type, func(node ast.Node) bool {
					if field, ok := node.(*ast.Field); ok {
						for _, n := range field.Names {
							of[n.Name] = true
						}
						if len(field.Names) == 0 { // embedded
							ast.Inspect(field.Type, func(node ast.Node) bool {
								if ident, ok := node.(*ast.Ident); ok {
									of[ident.Name] = true
								}
								return true
							})
						}
					}
					return true
				})
			}
		}
	}
}
