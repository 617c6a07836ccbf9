package connpool

import (
	"context"
	"crypto/tls"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func TestDefaultsAreTheHandoffs(t *testing.T) {
	c := Config{}.withDefaults("dns:///host:1")
	require.Equal(t, 10, c.MaxConnections)
	require.Equal(t, 2, c.MinConnections)
	require.Equal(t, 5*time.Minute, c.IdleTimeout)
	require.Equal(t, 10*time.Second, c.ConnectionTimeout)
	require.Equal(t, 3, c.MaxRetries)
	require.Equal(t, 30*time.Second, c.HealthCheckInterval)
	require.Equal(t, RoundRobin, c.Picker)
	require.Equal(t, 1, Config{}.withDefaults("xds:///service").MaxConnections)
	require.Equal(t, 1, Config{MaxConnections: 1}.withDefaults("").MinConnections)
	require.Equal(t, 20, Config{MinConnections: 20}.withDefaults("").MaxConnections)
}

// No field that was set is lost or changed by the defaults.
func TestDefaultsKeepWhatIsSet(t *testing.T) {
	set := Config{
		MaxConnections: 7, MinConnections: 3, IdleTimeout: 1, ConnectionTimeout: 2, MaxRetries: -1, HealthCheckInterval: 4,
		Picker: PowerOfTwo, MaxStreamsPerConnection: 9, MaxAge: 5, DrainDeadline: 6,
		QueueSize: 8, WaitForReady: true, Abandoned: Leave, Lanes: []Lane{{Name: LaneControl, Min: 1, Max: 2}},
		Breaker:       Breaker{Failures: 1, OpenFor: 2, Probes: 3, IsFailure: func(error) bool { return true }},
		HealthService: "x", TLS: &tls.Config{}, Credentials: insecure.NewCredentials(),
		DialOptions: []grpc.DialOption{grpc.WithUserAgent("x")}, ServiceConfig: "{}", Keepalive: 11,
		Logger: Config{}.withDefaults("").Logger,
	}
	v, w := reflect.ValueOf(set), reflect.ValueOf(set.withDefaults(""))
	for i := range v.NumField() {
		field := v.Type().Field(i).Name
		require.Falsef(t, v.Field(i).IsZero(), "%s is not set here", field)
		switch field {
		case "Breaker", "DialOptions": // functions do not compare
			require.False(t, w.Field(i).IsZero(), field)
		default:
			require.Equal(t, v.Field(i).Interface(), w.Field(i).Interface(), field)
		}
	}
}

func TestNewNamesEveryProblem(t *testing.T) {
	_, err := New("", Config{
		MaxConnections: 2, MinConnections: 5, ConnectionTimeout: -1, MaxStreamsPerConnection: -1,
		ServiceConfig: "[]", Picker: 99,
		Lanes:       []Lane{{Name: ""}, {Name: "a", Min: 2, Max: 1}, {Name: "a", Methods: []string{"bad"}}},
		DialOptions: []grpc.DialOption{nil}, Breaker: Breaker{Failures: -1},
	})
	for _, want := range []string{
		"MinConnections is 5, want at most MaxConnections (2)", "ConnectionTimeout is -1ns",
		"MaxStreamsPerConnection is -1", "ServiceConfig is no JSON object", "Picker is unknown(99)", `Lanes[0].Name is ""`,
		"Lanes[1] has Min 2 and Max 1",
		`Lanes[2].Name is "a"`, `"bad"`, "DialOptions[0] is nil", "Breaker.Failures is -1", "target is empty",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = New("dns:///host:1", Config{})
	require.ErrorContains(t, err, "transport security", "security is never off by default")
	_, err = New("://%%", Config{Credentials: insecure.NewCredentials()})
	require.Error(t, err)
	for _, target := range []string{
		"::::", "host:1:2", "dns:///", "dns:///host:",
		"http://host:80", "grpc+tcp://host:8815",
	} {
		_, err = New(target, Config{Credentials: insecure.NewCredentials(), ConnectionTimeout: -1})
		require.ErrorContains(t, err, "want a gRPC name such as dns:///host:port", target)
		require.ErrorContains(t, err, "ConnectionTimeout is -1")
	}
	for _, target := range []string{
		"host", "host:1", "::1", "[::1]:1", ":1", "dns://8.8.8.8/host:1",
		"unix:///tmp/socket", "passthrough:///any://thing",
	} {
		pool, err := New(target, Config{Credentials: insecure.NewCredentials()})
		require.NoError(t, err, target)
		require.NoError(t, pool.Close())
	}
	_, err = New("dns:///host:1", Config{Credentials: insecure.NewCredentials(), TLS: &tls.Config{}})
	require.ErrorContains(t, err, "only one of both")
	for _, both := range []credentials.TransportCredentials{nil, insecure.NewCredentials()} {
		_, err = New("dns:///host:1", Config{
			Credentials: both, DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
		})
		require.ErrorContains(t, err, "DialOptions hold transport credentials", "the stream limit is read behind the pool's")
	}
	_, err = New("dns:///host:1", Config{Credentials: insecure.NewCredentials(), MaxConnections: -3})
	require.ErrorContains(t, err, "MaxConnections is -3")
}

func TestErrorStatus(t *testing.T) {
	for want, e := range map[codes.Code]*Error{
		codes.Canceled:          {Reason: ReasonClosed},
		codes.ResourceExhausted: {Reason: ReasonSaturated},
		codes.Unavailable:       {Reason: ReasonUnreachable, Cause: errors.New("refused")},
		codes.DeadlineExceeded:  {Reason: ReasonSaturated, Cause: context.DeadlineExceeded},
		codes.InvalidArgument:   {Reason: ReasonUnknownLane},
	} {
		require.Equal(t, want, status.Code(e))
		require.ErrorIs(t, e, ErrRejected)
		require.Equal(t, e.Reason == ReasonClosed, errors.Is(e, ErrClosed))
	}
}

// The pool's balancer is added to a service config that names none, and nothing
// of the config is lost.
func TestServiceConfigKeepsItsBalancer(t *testing.T) {
	for config, want := range map[string]string{
		"":                               shuffled,
		"{}":                             shuffled,
		`{"retryThrottling":{"a":1}}`:    strings.TrimSuffix(shuffled, "}") + `,"retryThrottling":{"a":1}}`,
		`{"loadBalancingConfig":[]}`:     `{"loadBalancingConfig":[]}`,
		`{"loadBalancingPolicy":"mine"}`: `{"loadBalancingPolicy":"mine"}`,
	} {
		got, err := withBalancer(config)
		require.NoError(t, err)
		require.JSONEq(t, want, got)
	}
	for _, config := range []string{"null", "[]", "{", "1"} {
		_, err := withBalancer(config)
		require.Error(t, err, config)
	}
}

const shuffled = `{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`
