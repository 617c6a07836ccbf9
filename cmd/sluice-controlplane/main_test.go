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

	"github.com/withobsrvr/sluice/backpressure"
)

func TestBadFlagsAreNamed(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	for want, args := range map[string][]string{
		"want a number":          {"-max-in-flight", "-1"},
		"-policy is \"linear\"":  {"-policy", "linear"},
		"driver is \"mean\"":     {"-driver", "mean"},
		"\"serve\" is no flag":   {"serve"},
		"-recovery is 0.7":       {"-activation", "0.5", "-recovery", "0.7"},
		"-activation is 7":       {"-activation", "7"},
		"-tls-cert and -tls-key": {"-tls-client-ca", "ca.pem"},
		"no such file":           {"-tls-cert", "missing.pem", "-tls-key", "missing.pem"},
		"want a token":           {"-token-file", empty},
		"flag provided but not":  {"-nonsense"},
	} {
		var out bytes.Buffer
		require.Equal(t, 2, run(t.Context(), args, none, &out, &out), "%v", args)
		require.Contains(t, out.String(), want)
	}
	var out bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"-grpc", "no such host:-1"}, none, &out, &out))
	require.Contains(t, out.String(), "-grpc chooses another address")
}

func none(string) (string, bool) { return "", false }

func TestHelpAndVersionAreNoFailures(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, 0, run(t.Context(), []string{"-h"}, none, &stdout, &stderr))
	require.Contains(t, stderr.String(), "-max-in-flight")
	require.Contains(t, stderr.String(), "FLOWCTL_CONTROLPLANE_MAX_IN_FLIGHT")
	stderr.Reset()
	require.Equal(t, 0, run(t.Context(), []string{"-version"}, none, &stdout, &stderr))
	require.Contains(t, stdout.String(), "sluice-controlplane ")
	require.Empty(t, stderr.String())
}

func TestEachFlagHasAVariable(t *testing.T) {
	environment := map[string]string{
		"FLOWCTL_CONTROLPLANE_ACTIVATION": "0.9", "FLOWCTL_CONTROLPLANE_RECOVERY": "0.7", "FLOWCTL_CONTROLPLANE_DRIVER": "aggregate",
		"FLOWCTL_CONTROLPLANE_MAX_IN_FLIGHT": "0", "FLOWCTL_CONTROLPLANE_FOLDER": "/var/lib/sluice", "FLOWCTL_CONTROLPLANE_POLICY": "step",
	}
	lookup := func(name string) (string, bool) { v, ok := environment[name]; return v, ok }
	s, err := parse([]string{"-recovery", "0.5"}, lookup, io.Discard)
	require.NoError(t, err)
	require.Equal(t, backpressure.Config{
		Activation: 0.9, Recovery: 0.5, Driver: backpressure.Aggregate, MaxInFlight: -1, Policy: backpressure.Step{},
	}, s.decision, "a flag wins")
	require.Equal(t, "/var/lib/sluice", s.folder)
	environment["FLOWCTL_CONTROLPLANE_ACTIVATION"] = "high"
	_, err = parse(nil, lookup, io.Discard)
	require.ErrorContains(t, err, `FLOWCTL_CONTROLPLANE_ACTIVATION is "high"`)
}

func TestRunsUntilTold(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	says, stderr := io.Pipe()
	exit := make(chan int, 1)
	go func() {
		defer stderr.Close()
		exit <- run(ctx, []string{"-grpc", "127.0.0.1:0", "-http", "127.0.0.1:0"}, none, stderr, stderr)
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
