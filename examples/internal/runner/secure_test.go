package runner_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/component/componenttest"
	"github.com/withobsrvr/sluice/examples/internal/programs"
)

// The pipeline runs over mutual TLS and with a token as it does without, and asks
// its own components over https.
func TestPipelineOverMutualTLS(t *testing.T) {
	names := []string{"localhost"}
	for _, role := range component.Roles {
		names = append(names, string(role))
	}
	var env []string
	for name, file := range componenttest.NewAuthority(t).Issue(t, t.TempDir(), names...).Env() {
		env = append(env, name+"="+file)
	}
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("0123456789abcdef"), 0o600))
	env = append(env, "AUTH_TOKEN_FILE="+token)
	tr := start(t, t.TempDir(), programs.All(), env, "-ledgers=2")
	requireTruthOfTwo(t, tr.wait(t), 1)
	require.Contains(t, tr.output(t), "live topology at https://")
	require.NotContains(t, tr.output(t), "0123456789abcdef")
}
