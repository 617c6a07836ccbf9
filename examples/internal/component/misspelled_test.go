package component

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMisspelled(t *testing.T) {
	read := []string{
		"FLIGHT_PORT", "FLOWCTL_ENDPOINT", "FLOWCTL_HEARTBEAT_INTERVAL", "FLOWCTL_COMPONENT_ID",
		"FLOW_CONTROL_BACKPRESSURE_THRESHOLD", "OUT_DIR", "CONNECTION_POOL_MAX_CONNECTIONS",
	}
	hint := func(name, meant string) []string {
		return []string{name + " is set, and nothing reads it: did you mean " + meant + "?"}
	}
	for _, tc := range []struct {
		environ []string
		want    []string
	}{
		{[]string{"FLOW_CONTROL_BACKPRESURE_THRESHOLD=0.5"}, hint("FLOW_CONTROL_BACKPRESURE_THRESHOLD",
			"FLOW_CONTROL_BACKPRESSURE_THRESHOLD")},
		{[]string{"FLIGHT_PROT=1"}, hint("FLIGHT_PROT", "FLIGHT_PORT")},
		{[]string{"flight_port=1"}, hint("flight_port", "FLIGHT_PORT")},
		{[]string{"FLOWCTL_ENDPIONTS=a:1"}, hint("FLOWCTL_ENDPIONTS", "FLOWCTL_ENDPOINT")},
		{[]string{"CONNECTION_POOL_MAX_CONNECTION=5", "CONNECTION_POOL_SIZE=5"}, append(
			hint("CONNECTION_POOL_MAX_CONNECTION", "CONNECTION_POOL_MAX_CONNECTIONS"),
			"CONNECTION_POOL_SIZE is set, and nothing reads it; -h lists what is read")},
		{[]string{"FLIGHT_PORT=1", "FLIGHT_PORTS=1,2"}, nil}, // the one that is read is set: the other is somebody else's
		{[]string{"FLIGHT_PROT=", "FLIGHT_PROT"}, nil},       // set but empty is unset
		{[]string{"OUTPUT_DIR=x", "HOME=/", "FLIGHT_HOST=x"}, nil},
		// A flowctl that starts components sets these, too.
		{
			[]string{"FLOWCTL_SERVICE_ID=a", "FLOWCTL_RUN_ID=b", "FLOWCTL_ATTEMPT=1", "FLOWCTL_HEARTBEAT_INTERVAL_MS=10000"},
			nil,
		},
	} {
		require.Equal(t, tc.want, Misspelled(tc.environ, read), "%v", tc.environ)
	}
}

func TestDistance(t *testing.T) {
	for pair, want := range map[[2]string]int{
		{"", ""}: 0, {"a", ""}: 1, {"", "ab"}: 2, {"PORT", "PORT"}: 0, {"PROT", "PORT"}: 1, {"PORTS", "PORT"}: 1, {
			"PRT",
			"PORT",
		}: 1,
		{"HOST", "PORT"}: 2, {"ab", "ba"}: 1, {"abcd", "badc"}: 2,
	} {
		require.Equal(t, want, distance(pair[0], pair[1]), "%v", pair)
	}
}
