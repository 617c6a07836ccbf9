package programs_test

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/programs"
	"github.com/withobsrvr/sluice/examples/internal/programs/controlprogram"
	"github.com/withobsrvr/sluice/examples/internal/programs/processorprogram"
	"github.com/withobsrvr/sluice/examples/internal/programs/sinkprogram"
	"github.com/withobsrvr/sluice/examples/internal/programs/sourceprogram"
)

func process(env map[string]string) component.Process {
	return component.Process{Lookup: func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}}
}

// Every program refuses what it cannot use before it opens anything, all at
// once, as a usage error.
func TestProgramsRefuseTheirEnvironment(t *testing.T) {
	for name, tc := range map[string]struct {
		run  component.Run
		env  map[string]string
		want []string
	}{
		"control plane": {controlprogram.Run, map[string]string{"FLIGHT_PORT": "x"}, []string{`FLIGHT_PORT="x"`}},
		"source": {
			sourceprogram.Run,
			map[string]string{"LEDGER_SOURCE": "kafka", "START_LEDGER": "9", "END_LEDGER": "8"},
			[]string{
				`LEDGER_SOURCE="kafka" is not accepted: want one of sample, datalake, rpc`,
				`END_LEDGER="8" is not accepted: want at least START_LEDGER, which is 9`,
			},
		},
		"source, sample": {
			sourceprogram.Run,
			map[string]string{"START_LEDGER": "58000000"},
			[]string{`START_LEDGER="58000000" is not accepted: want unset with LEDGER_SOURCE=sample`},
		},
		"source, data lake": {
			sourceprogram.Run,
			map[string]string{"LEDGER_SOURCE": "datalake", "DATALAKE_TYPE": "S3"},
			[]string{"DATALAKE_PATH="},
		},
		"source, rpc": {sourceprogram.Run, map[string]string{"LEDGER_SOURCE": "rpc"}, []string{"RPC_URL="}},
		"source, rpc URL": {
			sourceprogram.Run,
			map[string]string{"LEDGER_SOURCE": "rpc", "RPC_URL": "localhost"},
			[]string{"http"},
		},
		"source, ledgers": {
			programs.All()[component.RoleSource],
			map[string]string{"LEDGER_SOURCE": "datalake", "START_LEDGER": "abc", "DATALAKE_PATH": "s3://bucket/prefix"},
			[]string{
				`START_LEDGER="abc" is not accepted: want a ledger sequence`,
				`DATALAKE_PATH="s3://bucket/prefix" is not accepted`,
			},
		},
		"processor": {
			processorprogram.Run,
			map[string]string{"SOURCE_ENDPOINT": "somewhere", "PROCESSOR_WORKERS": "-1"},
			[]string{`SOURCE_ENDPOINT="somewhere" is not accepted: want host:port`, `PROCESSOR_WORKERS="-1"`},
		},
		"sink": {
			sinkprogram.Run,
			map[string]string{
				"PROCESSOR_ENDPOINT": "host:0", "OUT_FORMAT": "xml", "SINK_DELAY": "-1s",
				"EXIT_WHEN_DONE": "maybe",
			},
			[]string{
				`PROCESSOR_ENDPOINT="host:0"`, `OUT_FORMAT="xml" is not accepted: want one of parquet, jsonl, csv`,
				`SINK_DELAY="-1s"`, `EXIT_WHEN_DONE="maybe"`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.run(t.Context(), process(tc.env))
			require.Equal(t, 2, component.ExitCode(err), "%v", err)
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestOpenLedgers(t *testing.T) {
	src, err := programs.OpenLedgers(t.Context(), process(map[string]string{"LEDGER_COUNT": "7"}).Lookup)
	require.NoError(t, err)
	bounds, err := src.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(7), bounds.Len())
	_, err = programs.OpenLedgers(t.Context(), process(map[string]string{
		"LEDGER_SOURCE": "datalake", "DATALAKE_PATH": t.TempDir(), "LEDGER_COUNT": "5",
	}).Lookup)
	require.ErrorContains(t, err, "there are no ledger files at")
	_, err = programs.OpenLedgers(t.Context(), process(map[string]string{"LEDGER_SOURCE": "x"}).Lookup)
	require.Equal(t, 2, component.ExitCode(err))
}

// Asked to end before its upstream is found, a component ends, and the sink says
// that nothing was written.
func TestDrainedBeforeItsUpstreamIsThere(t *testing.T) {
	drain := make(chan struct{})
	close(drain)
	for status, run := range map[int]component.Run{0: processorprogram.Run, component.ExitIncomplete: sinkprogram.Run} {
		dir := t.TempDir()
		p := process(map[string]string{
			"ENABLE_FLOWCTL": "true", "FLOWCTL_ENDPOINT": "localhost:1", "FLIGHT_PORT": "0", "HEALTH_PORT": "0", "OUT_DIR": dir,
		})
		p.Drain = drain
		require.Equal(t, status, component.ExitCode(run(t.Context(), p)))
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left, "no checkpoint of nothing")
	}
}

func TestStoppedBeforeItsUpstreamIsThere(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	p := process(map[string]string{
		"ENABLE_FLOWCTL": "true", "FLOWCTL_ENDPOINT": "localhost:1", "FLIGHT_PORT": "0",
		"HEALTH_PORT": "0",
	})
	require.ErrorIs(t, processorprogram.Run(ctx, p), context.Canceled)
}

// The programs of a pipeline share one environment: what one reads must not look
// like a mistake to another.
func TestNoProgramTakesAnothersVariableForAMistake(t *testing.T) {
	names := programs.Variables()
	for _, own := range []string{"LEDGER_SOURCE", "SOURCE_ENDPOINT", "SINK_DELAY"} {
		require.Contains(t, names, own)
	}
	for role, describe := range programs.Descriptions() {
		if role == component.RoleControlPlane { // it is a program of the pipeline alone, which knows all names
			continue
		}
		env := component.NewEnv(process(nil).Lookup)
		describe(env)
		for _, name := range names {
			require.Empty(t, component.Misspelled([]string{name + "=x"}, env.Names()))
		}
	}
}

func TestHelpNamesTheHandoffsVariables(t *testing.T) {
	handoff := []string{
		"ENABLE_FLOWCTL", "FLOWCTL_ENDPOINT", "FLOWCTL_HEARTBEAT_INTERVAL", "FLOWCTL_COMPONENT_ID",
		"CONNECTION_POOL_MAX_CONNECTIONS", "CONNECTION_POOL_MIN_CONNECTIONS", "CONNECTION_POOL_IDLE_TIMEOUT",
		"CONNECTION_POOL_HEALTH_CHECK_INTERVAL", "CONNECTION_POOL_LOAD_BALANCING",
		"FLOW_CONTROL_BACKPRESSURE_THRESHOLD", "FLOW_CONTROL_RECOVERY_THRESHOLD", "MONITORING_INTERVAL", "FLIGHT_PORT",
		"HEALTH_PORT",
	}
	for name, tc := range map[string]struct {
		describe func(*component.Env) any
		own      string
	}{
		"source":    {sourceprogram.Describe, "LEDGER_SOURCE"},
		"processor": {processorprogram.Describe, "SOURCE_ENDPOINT"},
		"sink":      {sinkprogram.Describe, "PROCESSOR_ENDPOINT"},
	} {
		env := component.NewEnv(process(nil).Lookup)
		tc.describe(env)
		var help bytes.Buffer
		require.NoError(t, env.WriteHelp(&help))
		for _, variable := range append(handoff, tc.own) {
			require.Contains(t, help.String(), variable, name)
		}
	}
}
