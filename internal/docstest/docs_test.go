package docstest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

var (
	marker  = regexp.MustCompile(`^<!-- excerpt: (\S+) -->$`)
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`^#{1,6} (.+)$`)
	// What GitHub drops from a heading's text to make its anchor.
	unanchored = regexp.MustCompile(`[^\p{L}\p{N}\s_-]`)
)

// TestSnippetsAreExcerpts proves that every Go block of the docs is part of a
// compiled file: the line before the fence names the file, and the block's
// lines stand in it in one piece, apart from the indentation. A line "// …"
// stands for lines left out.
func TestSnippetsAreExcerpts(t *testing.T) {
	blocks := 0
	for _, name := range markdown(t) {
		lines := strings.Split(read(t, name), "\n")
		for i, line := range lines {
			if strings.TrimSpace(line) != "```go" {
				continue
			}
			blocks++
			end := i + 1 + slices.IndexFunc(lines[i+1:], func(l string) bool { return strings.TrimSpace(l) == "```" })
			found := marker.FindStringSubmatch(strings.TrimSpace(previous(lines, i)))
			if found == nil {
				t.Errorf("%s:%d: a Go block needs the line <!-- excerpt: path/of/file.go --> before it", name, i+1)
				continue
			}
			source := normalized(strings.Split(read(t, found[1]), "\n"))
			for part := range strings.SplitSeq(normalized(lines[i+1:end]), "// …\n") {
				if !strings.Contains(source, part) {
					t.Errorf("%s:%d: this part of the block does not stand in %s:\n%s", name, i+1, found[1], part)
				}
			}
		}
	}
	require.NotZero(t, blocks, "no Go block found: is the path of the repository still right?")
}

// TestLinksResolve proves that every relative link and every heading that one
// names exists.
func TestLinksResolve(t *testing.T) {
	links := 0
	for _, name := range markdown(t) {
		for _, found := range link.FindAllStringSubmatch(prose(read(t, name)), -1) {
			target := found[1]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(target, "#")
			full := name
			if file != "" {
				full = filepath.Join(filepath.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join(root, full)); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, target)
				continue
			}
			if anchor != "" && strings.HasSuffix(full, ".md") && !slices.Contains(anchors(read(t, full)), anchor) {
				t.Errorf("%s links to %s, but %s has no such heading", name, target, full)
			}
		}
	}
	require.NotZero(t, links)
}

// markdown lists README.md and its like at the root, and everything in docs.
func markdown(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() && (base == "node_modules" || base == "testdata" || strings.HasPrefix(base, ".") && name != root) {
			return filepath.SkipDir
		}
		if filepath.Ext(base) == ".md" {
			relative, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			names = append(names, relative)
		}
		return nil
	})
	require.NoError(t, err)
	require.Contains(t, names, "README.md")
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(text)
}

func previous(lines []string, i int) string {
	if i == 0 {
		return ""
	}
	return lines[i-1]
}

// normalized trims every line, so that a block at any indentation is found.
func normalized(lines []string) string {
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(strings.TrimSpace(line) + "\n")
	}
	return text.String()
}

// prose is the text without its code blocks.
func prose(text string) string {
	var kept []string
	code := false
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
			continue
		}
		if !code {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

func anchors(text string) []string {
	var names []string
	for line := range strings.SplitSeq(prose(text), "\n") {
		if found := heading.FindStringSubmatch(line); found != nil {
			name := unanchored.ReplaceAllString(strings.ToLower(found[1]), "")
			names = append(names, strings.ReplaceAll(strings.TrimSpace(name), " ", "-"))
		}
	}
	return names
}
