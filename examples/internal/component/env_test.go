package component_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

func environment(pairs map[string]string) *component.Env {
	return component.NewEnv(func(name string) (string, bool) {
		v, ok := pairs[name]
		return v, ok
	})
}

func TestConfigDefaults(t *testing.T) {
	env := environment(nil)
	c := component.ReadConfig(env, component.RoleProcessor)
	require.NoError(t, env.Err())
	require.Same(t, env.Redactor(), c.Secrets)
	c.Secrets = nil
	require.Equal(t, component.Config{
		Role: component.RoleProcessor, ID: "ttp-arrow-processor",
		FlowctlEndpoint: "localhost:8080", HeartbeatInterval: 10 * time.Second,
		Pool: component.PoolConfig{
			Max: 10, Min: 2, IdleTimeout: 5 * time.Minute,
			HealthCheckInterval: 30 * time.Second, LoadBalancing: true,
		},
		BackpressureThreshold: 0.8, RecoveryThreshold: 0.6, MonitoringInterval: 5 * time.Second,
		Host: "localhost", Advertise: "localhost", FlightPort: 8816, HealthPort: 8089,
		MaxMessages: 64, MaxBytes: 64 << 20, DrainGrace: 10 * time.Second, LogLevel: "info", LogFormat: "text",
	}, c)
}

func TestConfigReadsTheHandoffsVariables(t *testing.T) {
	env := environment(map[string]string{
		"ENABLE_FLOWCTL": "true", "FLOWCTL_ENDPOINT": "flowctl.example.com:9000", "FLOWCTL_HEARTBEAT_INTERVAL": "15s",
		"FLOWCTL_COMPONENT_ID":            "sink-7",
		"CONNECTION_POOL_MAX_CONNECTIONS": "20", "CONNECTION_POOL_MIN_CONNECTIONS": "5",
		"CONNECTION_POOL_IDLE_TIMEOUT":          "10m",
		"CONNECTION_POOL_HEALTH_CHECK_INTERVAL": "60s", "CONNECTION_POOL_LOAD_BALANCING": "false",
		"FLOW_CONTROL_BACKPRESSURE_THRESHOLD": "0.75", "FLOW_CONTROL_RECOVERY_THRESHOLD": "0.5", "MONITORING_INTERVAL": "3s",
		"ALLOW_PLAINTEXT": "true", "FLIGHT_PORT": "9817", "HEALTH_PORT": "9090", "LOG_LEVEL": "DEBUG",
		"LOG_FORMAT": " json ", "LISTEN_HOST": "",
	})
	c := component.ReadConfig(env, component.RoleSink)
	require.NoError(t, env.Err())
	require.True(t, c.Flowctl)
	require.Equal(t, "flowctl.example.com:9000", c.FlowctlEndpoint)
	require.Equal(t, 15*time.Second, c.HeartbeatInterval)
	require.Equal(t, "sink-7", c.ID)
	require.Equal(t, component.PoolConfig{
		Max: 20, Min: 5, IdleTimeout: 10 * time.Minute,
		HealthCheckInterval: time.Minute,
	}, c.Pool)
	require.Equal(t, 0.75, c.BackpressureThreshold)
	require.Equal(t, 0.5, c.RecoveryThreshold)
	require.Equal(t, 3*time.Second, c.MonitoringInterval)
	require.Equal(t, [2]int{9817, 9090}, [2]int{c.FlightPort, c.HealthPort})
	require.Equal(t, "debug", c.LogLevel, "the accepted spelling")
	require.Equal(t, "json", c.LogFormat)
	require.Equal(t, "localhost", c.Host, "set but empty is unset")
}

// Every refused variable is named at once, with its value and what is accepted.
func TestConfigNamesEverythingThatItRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ value, accepted string }{
		"ENABLE_FLOWCTL":                        {"maybe", "true or false"},
		"FLOWCTL_ENDPOINT":                      {"localhost", "host:port"},
		"FLOWCTL_HEARTBEAT_INTERVAL":            {"10", "a duration of at least 100ms"},
		"CONNECTION_POOL_MAX_CONNECTIONS":       {"0", "a whole number from 1 to 1000"},
		"CONNECTION_POOL_MIN_CONNECTIONS":       {"-1", "a whole number from 1 to 1000"},
		"CONNECTION_POOL_IDLE_TIMEOUT":          {"10ms", "a duration of at least 1s"},
		"CONNECTION_POOL_HEALTH_CHECK_INTERVAL": {"often", "a duration"},
		"CONNECTION_POOL_LOAD_BALANCING":        {"round-robin", "true or false"},
		"FLOW_CONTROL_BACKPRESSURE_THRESHOLD":   {"80", "a number above 0 and at most 1"},
		"FLOW_CONTROL_RECOVERY_THRESHOLD":       {"NaN", "a number above 0 and at most 1"},
		"MONITORING_INTERVAL":                   {"-5s", "a duration"},
		"FLIGHT_PORT":                           {"70000", "a port from 0 to 65535"},
		"HEALTH_PORT":                           {"http", "a port from 0 to 65535"},
		"STAGE_MAX_BATCHES":                     {"1", "a whole number from 2"},
		"LOG_LEVEL":                             {"loud", "one of debug, info, warn, error"},
		"LOG_FORMAT":                            {"xml", "one of text, json"},
	} {
		t.Run(name, func(t *testing.T) {
			env := environment(map[string]string{name: tc.value})
			component.ReadConfig(env, component.RoleSource)
			refused, ok := errors.AsType[*component.EnvError](env.Err())
			require.True(t, ok)
			require.Equal(t, name, refused.Name)
			require.Equal(t, tc.value, refused.Value)
			require.Contains(t, refused.Accepted, tc.accepted)
		})
	}

	env := environment(map[string]string{"FLIGHT_PORT": "x", "LOG_LEVEL": "y"})
	component.ReadConfig(env, component.RoleSource)
	require.ErrorContains(t, env.Err(), `FLIGHT_PORT="x" is not accepted: want a port from 0 to 65535`)
	require.ErrorContains(t, env.Err(), `LOG_LEVEL="y" is not accepted: want one of debug, info, warn, error`)
}

func TestConfigChecksAcrossVariables(t *testing.T) {
	env := environment(map[string]string{
		"CONNECTION_POOL_MAX_CONNECTIONS": "3", "CONNECTION_POOL_MIN_CONNECTIONS": "5",
		"FLOW_CONTROL_BACKPRESSURE_THRESHOLD": "0.5", "FLOW_CONTROL_RECOVERY_THRESHOLD": "0.5",
	})
	component.ReadConfig(env, component.RoleSource)
	require.ErrorContains(t, env.Err(),
		`CONNECTION_POOL_MIN_CONNECTIONS="5" is not accepted: want at most CONNECTION_POOL_MAX_CONNECTIONS, which is 3`)
	require.ErrorContains(t, env.Err(),
		`FLOW_CONTROL_RECOVERY_THRESHOLD="0.5" is not accepted: `+
			`want less than FLOW_CONTROL_BACKPRESSURE_THRESHOLD, which is 0.5`)
}

// What -h lists is what is read: a variable cannot be one without the other.
func TestHelpListsWhatIsRead(t *testing.T) {
	var read []string
	env := component.NewEnv(func(name string) (string, bool) {
		read = append(read, name)
		return "", false
	})
	component.ReadConfig(env, component.RoleSink)
	var help bytes.Buffer
	require.NoError(t, env.WriteHelp(&help))
	for _, name := range read {
		require.Contains(t, help.String(), name)
	}
	require.NotEmpty(t, read)
}

func TestExitCode(t *testing.T) {
	require.Equal(t, 0, component.ExitCode(nil))
	require.Equal(t, 1, component.ExitCode(errors.New("disk full")))
	require.Equal(t, 2, component.ExitCode(&component.UsageError{Err: errors.New("FLIGHT_PORT")}))
}
