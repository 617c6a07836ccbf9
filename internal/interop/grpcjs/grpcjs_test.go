package grpcjs_test

import (
	"encoding/json"
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
	"github.com/withobsrvr/sluice/internal/interop/flightsql"
	"github.com/withobsrvr/sluice/internal/testenv"
)

func TestJavaScriptClient(t *testing.T) {
	node := testenv.Require(t, "node", "nodejs")
	testenv.Require(t, "npm", "npm")
	folder := t.TempDir()
	install := exec.CommandContext(t.Context(), "./install.sh", folder)
	out, err := install.CombinedOutput()
	require.NoError(t, err, string(out))

	server, gate, address := flightsql.Serve(t)
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	client := exec.CommandContext(t.Context(), node, "client.js", host, port, flightsql.Query, "n")
	client.Dir = folder
	out, err = client.Output()
	if exit, ok := err.(*exec.ExitError); ok {
		t.Fatalf("the client failed: %s", exit.Stderr)
	}
	require.NoError(t, err)
	var seen struct {
		Rows   int64
		Sum    string
		Schema []string
	}
	require.NoError(t, json.Unmarshal(out, &seen))
	require.EqualValues(t, flightsql.Rows, seen.Rows)
	require.Equal(t, strconv.Itoa(flightsql.Rows*(flightsql.Rows+1)/2), seen.Sum)
	require.Equal(t, []string{"n", "name"}, seen.Schema)

	require.Eventually(t, func() bool { return server.Stats().ActiveCalls == 0 }, 2*time.Minute, 10*time.Millisecond)
	interceptorstest.Rows(t, server, interceptors.ClassGet, 0, flightsql.Rows)
	interceptorstest.Idle(t, server)
	interceptorstest.Empty(t, gate)
}
