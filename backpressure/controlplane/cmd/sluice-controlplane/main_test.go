package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBadFlagsAreNamed(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	for want, args := range map[string][]string{
		"-policy is \"linear\"":  {"-policy", "linear"},
		"-driver is \"mean\"":    {"-driver", "mean"},
		"-tls-cert and -tls-key": {"-tls-client-ca", "ca.pem"},
		"no such file":           {"-tls-cert", "missing.pem", "-tls-key", "missing.pem"},
		"want a token":           {"-token-file", empty},
		"flag provided but not":  {"-nonsense"},
	} {
		var out bytes.Buffer
		require.Equal(t, 2, run(t.Context(), args, &out), "%v", args)
		require.Contains(t, out.String(), want)
	}
	var out bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"-grpc", "127.0.0.1:0", "-http", "", "-activation", "0.5", "-recovery", "0.7"}, &out))
	require.Contains(t, out.String(), "Recovery is 0.7")
}

func TestRunsUntilTold(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	var out bytes.Buffer
	require.Equal(t, 0, run(ctx, []string{"-grpc", "127.0.0.1:0", "-http", "127.0.0.1:0"}, &out))
	require.Contains(t, out.String(), "plaintext, on loopback only")
}
