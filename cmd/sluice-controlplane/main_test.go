package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBadFlagsAreNamed(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	for want, args := range map[string][]string{
		"want a number":          {"-max-in-flight", "-1"},
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
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	says, stderr := io.Pipe()
	exit := make(chan int, 1)
	go func() {
		defer stderr.Close()
		exit <- run(ctx, []string{"-grpc", "127.0.0.1:0", "-http", "127.0.0.1:0"}, stderr)
	}()
	var all strings.Builder
	for lines := bufio.NewScanner(says); lines.Scan(); {
		all.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "control plane serves gRPC") { // the last thing before it only serves
			stop()
		}
	}
	require.Equal(t, 0, <-exit)
	require.Contains(t, all.String(), "plaintext, on loopback only")
	require.Contains(t, all.String(), "control plane serves HTTP")
}
