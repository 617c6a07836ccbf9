package component

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersion(t *testing.T) {
	for built, want := range map[string]string{"": "dev", "(devel)": "dev", "v1.2.3": "v1.2.3"} {
		require.Equal(t, want, versionOf(&debug.BuildInfo{Main: debug.Module{Version: built}}))
	}
	require.NotEmpty(t, Version())
}
