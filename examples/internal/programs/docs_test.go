package programs_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/internal/testenv"
)

// The page about security names tests and fuzz targets that exist, and every fuzz
// target of the examples.
func TestThePageAboutSecurityNamesWhatExists(t *testing.T) {
	text, err := os.ReadFile("../../../docs/security.md")
	require.NoError(t, err)
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`).FindAllString(string(text), -1) {
		named[name] = true
	}
	have := map[string]bool{}
	require.NoError(t, filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, match := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(string(code), -1) {
			have[match[1]] = true
			if strings.HasPrefix(match[1], "Fuzz") {
				require.True(t, named[match[1]], "%s in %s is not on the page", match[1], path)
			}
		}
		return err
	}))
	require.NotEmpty(t, named)
	for name := range named {
		require.True(t, have[name], "the page names %s", name)
	}
}

// Alerts and docs name series that a program exports.
func TestAlertsNameSeriesThatExist(t *testing.T) {
	var code []byte
	for _, file := range []string{"sourceprogram/lag.go", "../component/http.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		code = append(code, text...)
	}
	named := map[string]bool{}
	for _, file := range []string{"../../alerts.yaml", "../../../docs/reference-pipeline.md"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`stellar_ledgers_\w+`).FindAllString(string(text), -1) {
			require.Contains(t, string(code), `"`+name+`"`, file)
			named[name] = true
		}
	}
	require.Len(t, named, 4)
	promtool := testenv.Require(t, "promtool", "prometheus")
	out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint=all", "--lint-fatal",
		"../../alerts.yaml").CombinedOutput()
	require.NoError(t, err, "%s", out)
}
