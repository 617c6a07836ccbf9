package runner

import (
	"bytes"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The page about the pipeline names every flag and every port.
func TestTheDocumentationNamesEveryFlag(t *testing.T) {
	page, err := os.ReadFile("../../../docs/reference-pipeline.md")
	require.NoError(t, err)
	var help bytes.Buffer
	_, err = ParseOptions([]string{"-h"}, lookupIn(nil), &help)
	require.Error(t, err)
	flags := regexp.MustCompile(`(?m)^  (-[a-z-]+)`).FindAllStringSubmatch(help.String(), -1)
	require.Len(t, flags, 13)
	for _, flag := range flags {
		require.Regexp(t, "`"+flag[1]+"[`= ]", string(page))
	}
	for _, name := range PortNames() {
		require.Contains(t, string(page), "`"+name+"`")
	}
}
