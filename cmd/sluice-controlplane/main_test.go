package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"io"
	"log/slog"
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
		"want a number":                      {"-max-in-flight", "-1"},
		"-policy is \"linear\"":              {"-policy", "linear"},
		"driver is \"mean\"":                 {"-driver", "mean"},
		"\"serve\" is no flag":               {"serve"},
		"-recovery is 0.7":                   {"-activation", "0.5", "-recovery", "0.7"},
		"-activation is 7":                   {"-activation", "7"},
		"-tls-cert and -tls-key go together": {"-tls-client-ca", "ca.pem"},
		"-tls-cert and -tls-key: open":       {"-tls-cert", "missing.pem", "-tls-key", "missing.pem"},
		"-token-file: " + empty:              {"-token-file", empty},
		"-admin-token-file: open":            {"-admin-token-file", "missing"},
		"-folder: mkdir":                     {"-folder", filepath.Join(empty, "below")},
		"flag provided but not":              {"-nonsense"},
	} {
		var out bytes.Buffer
		require.Equal(t, 2, run(t.Context(), args, none, &out, &out), "%v", args)
		require.Contains(t, out.String(), want)
	}
	var out bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"-grpc", "no such host:-1"}, none, &out, &out))
	require.Contains(t, out.String(), "-grpc chooses another address")

	folder := t.TempDir()
	require.NoError(
		t,
		os.WriteFile(
			filepath.Join(folder, "sluice-controlplane.db"), []byte("no database, but long enough to be read"), 0o600,
		),
	)
	out.Reset()
	require.Equal(
		t, 1, run(t.Context(), []string{"-grpc", "127.0.0.1:0", "-http", "", "-folder", folder}, none, &out, &out),
	)
	require.Contains(t, out.String(), "sluice-controlplane: -folder: ")
	require.NotContains(t, out.String(), "Config")
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

// Every flag can be given by its variable instead, and a flag wins over it.
func TestEachFlagHasAVariable(t *testing.T) {
	values := map[string]string{
		"activation": "0.9", "recovery": "0.7", "driver": "aggregate",
		"max-in-flight": "0", "policy": "step", "version": "true",
	}
	environment := map[string]string{}
	var args []string
	newFlags(&settings{}, io.Discard).VisitAll(func(f *flag.Flag) {
		value, ok := values[f.Name]
		if !ok {
			value = f.Name // any text
		}
		environment[variable(f.Name)] = value
		args = append(args, "-"+f.Name+"="+value)
	})
	lookup := func(name string) (string, bool) { v, ok := environment[name]; return v, ok }
	byVariables, err := parse(nil, lookup, io.Discard)
	require.NoError(t, err)
	byFlags, err := parse(args, none, io.Discard)
	require.NoError(t, err)
	require.Equal(t, byFlags, byVariables)
	require.Equal(t, backpressure.Config{
		Activation: 0.9, Recovery: 0.7, Driver: backpressure.Aggregate, MaxInFlight: -1, Policy: backpressure.Step{},
	}, byVariables.decision)

	both, err := parse([]string{"-recovery", "0.5"}, lookup, io.Discard)
	require.NoError(t, err)
	require.Equal(t, 0.5, both.decision.Recovery, "a flag wins")
	environment["FLOWCTL_CONTROLPLANE_ACTIVATION"] = "high"
	_, err = parse(nil, lookup, io.Discard)
	require.ErrorContains(t, err, `FLOWCTL_CONTROLPLANE_ACTIVATION is "high"`)
}

// Without any flag the program remembers in a folder for its address: two of them on
// one machine, and one at an address of the system's choice, have nothing in common.
func TestTheFolderIsTheAddressOwn(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	log := slog.New(slog.DiscardHandler)
	open := func(args ...string) string {
		s, err := parse(args, none, io.Discard)
		require.NoError(t, err)
		folder, err := s.openFolder(log)
		require.NoError(t, err)
		return folder
	}
	own := open()
	require.DirExists(t, own)
	require.Equal(t, own, open())
	require.NotEqual(t, own, open("-grpc", "127.0.0.1:9090"))
	require.DirExists(t, open("-grpc", "[::1]:8080"))
	require.Empty(t, open("-folder", ""))
	require.Empty(t, open("-grpc", "127.0.0.1:0"))
	chosen := filepath.Join(t.TempDir(), "chosen")
	require.Equal(t, chosen, open("-folder", chosen))

	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	require.Empty(t, open(), "no home: it runs all the same")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	t.Setenv("HOME", file)
	t.Setenv("XDG_CACHE_HOME", file)
	require.Empty(t, open(), "nothing can be written: it runs all the same")
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
