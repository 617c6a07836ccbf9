package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const maxColumns = 120

// longLines are what is left of the time before the rule, by folder: a bound that
// is only ever lowered. A folder that is not listed has none.
var longLines = map[string]int{
	"examples":         53,
	"internal/interop": 2,
}

// TestLinesAreShort proves that Go lines have at most 120 columns, a tab being
// one, in every module; generated files are left as they are generated.
func TestLinesAreShort(t *testing.T) {
	root, found := repositoryRoot(t), map[string][]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != root && (skipped(entry.Name()) || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if filepath.Ext(name) != ".go" || strings.HasSuffix(name, ".pb.go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		folder, rest, _ := strings.Cut(filepath.ToSlash(relative), "/")
		if folder == "internal" {
			below, _, _ := strings.Cut(rest, "/")
			folder += "/" + below
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			if utf8.RuneCountInString(line) > maxColumns {
				found[folder] = append(found[folder], relative+": "+line)
			}
		}
		return nil
	})
	require.NoError(t, err)
	for folder, lines := range found {
		if len(lines) > longLines[folder] {
			t.Errorf("%s has %d lines of more than %d columns, at most %d are left from before:\n%s",
				folder, len(lines), maxColumns, longLines[folder], strings.Join(lines, "\n"))
		}
	}
	for folder, bound := range longLines {
		if n := len(found[folder]); n < bound {
			t.Logf("%s has %d long lines: its bound of %d can be lowered", folder, n, bound)
		}
	}
}
