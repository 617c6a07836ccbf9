package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// A touch of every part, so that the program that makes the document's tables
// keeps working.
func TestParts(t *testing.T) {
	free, limited, stop, err := listen()
	require.NoError(t, err)
	defer stop()
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, p.run(env{Context: t.Context(), out: &out, free: free, limited: limited, rounds: 1, small: true}))
			require.Contains(t, out.String(), "|---|")
			t.Log(out.String())
		})
	}
}
