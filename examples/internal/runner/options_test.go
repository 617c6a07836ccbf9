package runner

import (
	"bytes"
	"flag"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

func parse(args []string, env ...string) (Options, error) {
	return ParseOptions(args, lookupIn(env), &bytes.Buffer{})
}

func TestOptionsDefaults(t *testing.T) {
	o, err := parse(nil)
	require.NoError(t, err)
	require.Equal(t, Options{
		Ledgers: 200, Out: "./sluice-out", Format: "parquet", Source: "sample", Summary: "text", Ports: DefaultPorts(),
		Verify: true, LogLevel: "warn", LogFormat: "text",
	}, o)
	require.Equal(t, Ports{
		"control": 8080, "control-http": 8087, "source": 8815, "source-http": 8088,
		"processor": 8816, "processor-http": 8089, "sink": 8817, "sink-http": 8090,
	}, o.Ports)
}

// Each flag and its environment twin do the same, and the flag wins.
func TestEveryFlagHasATwin(t *testing.T) {
	for name, values := range map[string][2]string{
		"ledgers": {"7", "9"}, "out": {"/tmp/a", "/tmp/b"}, "format": {"csv", "jsonl"}, "source": {"rpc", "datalake"},
		"serve": {"true", "false"}, "resume": {"/tmp/run", "last"}, "summary": {"json", "text"}, "ports": {"auto", "sink=1234"},
		"inprocess": {"true", "false"}, "sink-delay": {"50ms", "1s"}, "verify": {"false", "true"},
		"log-level": {"debug", "error"}, "log-format": {"json", "text"},
	} {
		t.Run(name, func(t *testing.T) {
			byFlag, err := parse([]string{"-" + name + "=" + values[0]})
			require.NoError(t, err)
			twin := "PIPELINE_" + map[bool]string{true: name}[true]
			twin = string(bytes.ToUpper(bytes.ReplaceAll([]byte(twin), []byte("-"), []byte("_"))))
			byTwin, err := parse(nil, twin+"="+values[0])
			require.NoError(t, err)
			require.Equal(t, byFlag, byTwin)
			both, err := parse([]string{"-" + name + "=" + values[0]}, twin+"="+values[1])
			require.NoError(t, err)
			require.Equal(t, byFlag, both, "the flag wins")
			defaults, err := parse(nil)
			require.NoError(t, err)
			require.NotEqual(t, defaults, byFlag, "the flag does something")
		})
	}
}

func TestOptionsRefuse(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"-ledgers", "0"}, "want a whole number from 1"},
		{[]string{"-ledgers", "many"}, "want a whole number from 1"},
		{[]string{"-source", "kafka"}, "want one of sample, datalake, rpc"},
		{[]string{"-sink-delay", "-1s"}, "want a duration of at least 0"},
		{[]string{"-summary", "yaml"}, "want one of text, json"},
		{[]string{"-ports", "sink=99999"}, "a port from 0 to 65535"},
		{[]string{"-ports", "sinc=1"}, "want auto, or NAME=PORT with a name of control, control-http"},
		{[]string{"-ports", "sink=8815"}, "source and sink both have port 8815"},
		{[]string{"-nonsense"}, "flag provided but not defined"},
		{[]string{"run"}, `unexpected argument "run"`},
	} {
		_, err := parse(tc.args)
		require.ErrorContains(t, err, tc.want, "%v", tc.args)
	}
	_, err := parse(
		[]string{"-format=xml", "-source", "kafka", "-nonsense", "-ports=sinc=1"},
		"PIPELINE_LEDGERS=x",
		"PIPELINE_SUMMARY=y",
	)
	require.ErrorContains(
		t,
		err,
		`PIPELINE_LEDGERS="x" is not accepted: want what -ledgers takes: want a whole number from 1`,
	)
	require.ErrorContains(t, err, `PIPELINE_SUMMARY="y"`)
	for _, want := range []string{"want one of parquet, jsonl, csv", "want one of sample, datalake, rpc", "not defined: -nonsense", `"sinc=1": want auto`} {
		require.ErrorContains(t, err, want, "all at once")
	}
}

func TestHelpExplainsAll(t *testing.T) {
	var out bytes.Buffer
	_, err := ParseOptions([]string{"-h"}, lookupIn(nil), &out)
	require.ErrorIs(t, err, flag.ErrHelp)
	for _, name := range []string{"ledgers", "out", "source", "serve", "resume", "summary", "ports", "inprocess", "sink-delay", "log-level", "log-format", "verify", "format"} {
		require.Contains(t, out.String(), "  -"+name)
	}
}

func TestResumeTakesAValueOrNone(t *testing.T) {
	for args, want := range map[string]string{"-resume": LastRun, "-resume=sluice-out/run-1": "sluice-out/run-1", "-resume=false": ""} {
		o, err := parse([]string{args})
		require.NoError(t, err)
		require.Equal(t, want, o.Resume)
	}
}

func TestPortsCheckNamesPortAndFlag(t *testing.T) {
	taken, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	var ports Ports
	require.NoError(t, ports.Set("auto"))
	require.NoError(t, ports.Check("localhost"))
	ports["processor-http"] = port
	err = ports.Check("localhost")
	require.ErrorContains(t, err, "port "+strconv.Itoa(port)+" for processor-http is not free")
	require.ErrorContains(t, err, "-ports processor-http=PORT")
	require.ErrorContains(t, err, "-ports auto")
}

func TestPortsOf(t *testing.T) {
	ports := DefaultPorts()
	require.NoError(t, ports.Set("sink=1, source-http=2"))
	grpcPort, httpPort := ports.Of(component.RoleSink)
	require.Equal(t, [2]int{1, 8090}, [2]int{grpcPort, httpPort})
	_, httpPort = ports.Of(component.RoleSource)
	require.Equal(t, 2, httpPort)
}

func TestMeter(t *testing.T) {
	at := time.Unix(0, 0)
	m := meter{total: 100}
	picture := func(second int, ledgers, events int64) (p picture) {
		p.at = at.Add(time.Duration(second) * time.Second)
		p.sink.Ledgers, p.sink.Events = ledgers, events
		return p
	}
	rate, left := m.rates()
	require.Zero(t, rate)
	require.Negative(t, left)
	m.add(picture(0, 0, 0))
	m.add(picture(1, 10, 5000))
	rate, left = m.rates()
	require.Equal(t, 5000.0, rate)
	require.Equal(t, 9*time.Second, left)
	for second := 2; second <= 20; second++ { // ten times slower: the window forgets
		m.add(picture(second, 10+int64(second)-1, 5000+500*int64(second-1)))
	}
	rate, left = m.rates()
	require.Equal(t, 500.0, rate)
	require.Equal(t, 71*time.Second, left)
	require.LessOrEqual(t, len(m.samples), 7)
}

// A variable of a component that the pipeline sets itself is not ignored silently,
// and the list of those is what the pipeline sets.
func TestVariablesThatThePipelineSetsItself(t *testing.T) {
	require.Empty(t, Overridden([]string{"START_LEDGER=5", "LEDGER_COUNT=", "PATH=/bin"}))
	require.Equal(t, []string{
		"LEDGER_COUNT is set, and the pipeline sets it itself: use -ledgers",
		"LOG_LEVEL is set, and the pipeline sets it itself: use -log-level",
	}, Overridden([]string{"LOG_LEVEL=debug", "LEDGER_COUNT=5"}))
}
