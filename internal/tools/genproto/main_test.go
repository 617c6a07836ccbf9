package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGeneratedCodeIsUpToDate fails when a .proto file changed and its Go code
// did not; the error names the command that makes it.
func TestGeneratedCodeIsUpToDate(t *testing.T) {
	names, err := protoFiles("../../..")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	require.NoError(t, run(t.Context(), "../../..", true))
}
