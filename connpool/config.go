package connpool

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Defaults of a zero [Config].
const (
	DefaultMaxConnections      = 10
	DefaultMinConnections      = 2
	DefaultIdleTimeout         = 5 * time.Minute
	DefaultConnectionTimeout   = 10 * time.Second
	DefaultMaxRetries          = 3
	DefaultHealthCheckInterval = 30 * time.Second
	DefaultTargetUtilization   = 0.8
	DefaultQueueSize           = 1024
	DefaultMaxBackoff          = 30 * time.Second
	DefaultKeepalive           = 6 * time.Minute
	// AssumedStreamLimit is how many concurrent streams a connection is thought
	// to carry before its server has shown its own limit. 100 is what most
	// HTTP/2 servers and proxies announce.
	AssumedStreamLimit = 100
)

// Picker says which connection a call takes. Its zero value is round-robin.
type Picker uint8

const (
	// RoundRobin takes the next healthy connection that has room.
	RoundRobin Picker = iota
	// LeastLoaded takes the connection with the smallest share of its streams
	// in use, starting at a rotating place so that ties spread.
	LeastLoaded
	// PowerOfTwo takes the less loaded of two drawn at random.
	PowerOfTwo
	// FirstHealthy fills the connections in order: it keeps HTTP/2 windows warm
	// and lets the rest become idle.
	FirstHealthy
)

// String names the picker as it stands in logs.
func (p Picker) String() string {
	return name(p, "round_robin", "least_loaded", "power_of_two", "first_healthy")
}

// Saturation says what happens to a call when every connection is full.
type Saturation uint8

const (
	// Queue lets the call wait in a bounded FIFO queue until its context ends.
	Queue Saturation = iota
	// FailFast refuses the call at once.
	FailFast
)

// String names the policy as it stands in logs.
func (s Saturation) String() string { return name(s, "queue", "fail_fast") }

// Unreachable says when a call fails while no connection is healthy and the
// last attempt to open one has failed. A call with grpc.WaitForReady(true)
// always waits.
type Unreachable uint8

const (
	// RefuseAtOnce fails the call at once, as gRPC does by default.
	RefuseAtOnce Unreachable = iota
	// WaitForDeadline lets the call wait for a connection until its context ends.
	WaitForDeadline
)

// String names the policy as it stands in logs.
func (u Unreachable) String() string { return name(u, "refuse_at_once", "wait_for_deadline") }

// Abandoned says what the pool does with a stream whose reader was garbage
// collected before the stream ended.
type Abandoned uint8

const (
	// Reclaim cancels the stream, or, when everything was sent on it and only
	// the answer was never read, reads the answer to its end. Not in a
	// testing/synctest bubble: fake time cannot wait for a garbage collection.
	Reclaim Abandoned = iota
	// Leave leaves it open until its context ends, as gRPC does.
	Leave
)

// String names the policy as it stands in logs.
func (a Abandoned) String() string { return name(a, "reclaim", "leave") }

func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", v)
}

// LaneControl is the lane of control traffic. Every pool has it: one
// connection, opened when it is first used.
const LaneControl = "control"

// Lane is a group of connections of its own within a pool. What runs in one
// lane takes no stream, window or queue place of another.
type Lane struct {
	// Name is what WithLane names. Required.
	Name string
	// Min connections are kept open; 0 = none until the lane is used.
	Min int
	// Max connections are opened at most; 0 = max(Min, 1).
	Max int
	// Methods that take this lane by themselves: full methods
	// ("/pkg.Service/Method") or whole services ("/pkg.Service/").
	Methods []string
	// Unary sends every unary call that no lane claims by name to this lane.
	// At most one lane may set it.
	Unary bool
}

// Breaker configures the circuit breaker of an endpoint.
type Breaker struct {
	// Failures in a row that open the breaker; 0 = no breaker.
	Failures int
	// OpenFor is how long calls are refused before one may probe, and how long
	// that one is waited for before another may; 0 = 5 s.
	OpenFor time.Duration
	// Probes that must succeed in a row, one at a time, to close it; 0 = 1.
	Probes int
	// IsFailure says which outcomes count; nil = codes.Unavailable.
	IsFailure func(error) bool
}

// Config configures a pool. A zero field takes its default; the pool never
// changes a Config that it was given.
type Config struct {
	// MaxConnections open at most in the main lane; 0 = 10, or 1 for an
	// "xds:" target, where each connection brings its own set of watchers.
	MaxConnections int
	// MinConnections kept open in the main lane; 0 = 2, at most MaxConnections.
	MinConnections int
	// IdleTimeout is how long a connection beyond the minimum may go unused;
	// 0 = 5 min, negative = for ever.
	IdleTimeout time.Duration
	// ConnectionTimeout bounds one attempt to connect; 0 = 10 s.
	ConnectionTimeout time.Duration
	// MaxRetries bounds the safe retries of one call; 0 = 3, negative = none.
	MaxRetries int
	// HealthCheckInterval is the mean time between two checks of a connection;
	// 0 = 30 s, negative = connectivity only.
	HealthCheckInterval time.Duration
	// Picker spreads the calls; the zero value is RoundRobin.
	Picker Picker

	// TargetUtilization of the connections' streams above which the pool
	// grows; 0 = 0.8. It shrinks below three quarters of it.
	TargetUtilization float64
	// MaxStreamsPerConnection caps what one connection carries, whatever its
	// server allows; 0 = what the server allows.
	MaxStreamsPerConnection int
	// MaxAge after which a connection is replaced, less up to a tenth of
	// jitter; 0 or negative = never.
	MaxAge time.Duration
	// DrainDeadline after which a draining connection is closed though streams
	// run on it; 0 or negative = never.
	DrainDeadline time.Duration
	// Saturation is the policy when every connection is full.
	Saturation Saturation
	// QueueSize bounds the calls that wait, in each lane; 0 = 1024.
	QueueSize int
	// Unreachable is the policy when the endpoint cannot be reached.
	Unreachable Unreachable
	// MaxBackoff bounds the growing, jittered pause between two attempts to
	// connect; 0 = 30 s.
	MaxBackoff time.Duration
	// Abandoned is the policy for streams that were dropped without an end.
	Abandoned Abandoned
	// Lanes beside the main one. A lane named LaneControl replaces the built-in.
	Lanes []Lane
	// Breaker of the endpoint; off by default.
	Breaker Breaker
	// HealthService is the name asked of grpc.health.v1; "" = the whole server.
	HealthService string
	// Retry says whether a failed unary call may be sent again although the
	// server may have seen it; nil = never. The server's pushback is honoured.
	Retry func(method string, err error) bool

	// TLS secures the connections; they share one session cache. Give this,
	// Credentials, or grpc.WithTransportCredentials among the DialOptions.
	TLS *tls.Config
	// Credentials secure the connections, or say that nothing does
	// (insecure.NewCredentials()).
	Credentials credentials.TransportCredentials
	// DialOptions are added to each connection's, after the pool's own.
	// Interceptors belong here, also those of Flight authentication, which
	// flight.NewClientFromConn does not install.
	DialOptions []grpc.DialOption
	// ServiceConfig is the default service configuration in JSON; "" =
	// pick_first with a shuffled address list, so that connections to one name
	// spread over its addresses. See [FlightServiceConfig].
	ServiceConfig string
	// Keepalive is the time without a sign of the server after which a
	// connection with open streams is pinged; 0 = 6 min, which is just above
	// what gRPC servers tolerate by default, negative = never.
	Keepalive time.Duration
	// StreamWindow and ConnWindow fix HTTP/2's flow-control windows in bytes,
	// and so the memory that stalled streams can hold; 0 = gRPC grows them.
	StreamWindow, ConnWindow int32
	// Dial makes an unconnected client connection; nil = grpc.NewClient.
	Dial func(target string, opts ...grpc.DialOption) (*grpc.ClientConn, error)
	// Logger gets the pool's transitions; nil = none.
	Logger *slog.Logger
}

func (c Config) withDefaults(target string) Config {
	if strings.HasPrefix(target, "xds:") {
		c.MaxConnections = cmp.Or(c.MaxConnections, max(1, c.MinConnections))
	}
	c.MaxConnections = cmp.Or(c.MaxConnections, max(DefaultMaxConnections, c.MinConnections))
	c.MinConnections = cmp.Or(c.MinConnections, min(DefaultMinConnections, c.MaxConnections))
	c.IdleTimeout = cmp.Or(c.IdleTimeout, DefaultIdleTimeout)
	c.ConnectionTimeout = cmp.Or(c.ConnectionTimeout, DefaultConnectionTimeout)
	c.MaxRetries = cmp.Or(c.MaxRetries, DefaultMaxRetries)
	c.HealthCheckInterval = cmp.Or(c.HealthCheckInterval, DefaultHealthCheckInterval)
	c.TargetUtilization = cmp.Or(c.TargetUtilization, DefaultTargetUtilization)
	c.QueueSize = cmp.Or(c.QueueSize, DefaultQueueSize)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, DefaultMaxBackoff)
	c.Keepalive = cmp.Or(c.Keepalive, DefaultKeepalive)
	c.ServiceConfig = cmp.Or(c.ServiceConfig, defaultServiceConfig)
	c.Breaker.OpenFor = cmp.Or(c.Breaker.OpenFor, 5*time.Second)
	c.Breaker.Probes = cmp.Or(c.Breaker.Probes, 1)
	if c.Breaker.IsFailure == nil {
		c.Breaker.IsFailure = isUnavailable
	}
	c.Lanes = slices.Clone(c.Lanes)
	if !slices.ContainsFunc(c.Lanes, func(l Lane) bool { return l.Name == LaneControl }) {
		c.Lanes = append(c.Lanes, Lane{Name: LaneControl, Methods: []string{"/grpc.health.v1.Health/"}})
	}
	for i := range c.Lanes {
		c.Lanes[i].Max = cmp.Or(c.Lanes[i].Max, max(c.Lanes[i].Min, 1))
	}
	c.DialOptions = slices.Clone(c.DialOptions)
	if c.Dial == nil {
		c.Dial = grpc.NewClient
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate checks a configuration that has its defaults, and names everything
// that is wrong with it.
func (c Config) validate() error {
	var problems []error
	want := func(ok bool, field string, value any, wanted string) {
		if !ok {
			problems = append(problems, fmt.Errorf("%s is %v, want %s", field, value, wanted))
		}
	}
	want(c.MaxConnections >= 1, "MaxConnections", c.MaxConnections, "at least 1")
	want(c.MinConnections >= 1, "MinConnections", c.MinConnections, "at least 1")
	want(c.MinConnections <= c.MaxConnections, "MinConnections", c.MinConnections, fmt.Sprintf("at most MaxConnections (%d)", c.MaxConnections))
	want(c.ConnectionTimeout > 0, "ConnectionTimeout", c.ConnectionTimeout, "more than 0")
	want(c.TargetUtilization > 0 && c.TargetUtilization <= 1, "TargetUtilization", c.TargetUtilization, "above 0 and at most 1")
	want(c.MaxStreamsPerConnection >= 0 && c.MaxStreamsPerConnection <= maxStreams, "MaxStreamsPerConnection", c.MaxStreamsPerConnection, fmt.Sprintf("0 to %d", maxStreams))
	want(c.QueueSize >= 1, "QueueSize", c.QueueSize, "at least 1")
	want(c.MaxBackoff > 0, "MaxBackoff", c.MaxBackoff, "more than 0")
	want(c.Picker <= FirstHealthy, "Picker", c.Picker, "one of the package's pickers")
	want(c.Saturation <= FailFast, "Saturation", c.Saturation, "Queue or FailFast")
	want(c.Unreachable <= WaitForDeadline, "Unreachable", c.Unreachable, "RefuseAtOnce or WaitForDeadline")
	want(c.Abandoned <= Leave, "Abandoned", c.Abandoned, "Reclaim or Leave")
	want(c.StreamWindow >= 0, "StreamWindow", c.StreamWindow, "0 or more bytes")
	want(c.ConnWindow >= 0, "ConnWindow", c.ConnWindow, "0 or more bytes")
	want(c.Breaker.Failures >= 0, "Breaker.Failures", c.Breaker.Failures, "0 or more")
	want(c.Breaker.OpenFor > 0, "Breaker.OpenFor", c.Breaker.OpenFor, "more than 0")
	want(c.Breaker.Probes >= 1, "Breaker.Probes", c.Breaker.Probes, "at least 1")
	want(c.TLS == nil || c.Credentials == nil, "Credentials", "set beside TLS", "only one of both")
	for i, o := range c.DialOptions {
		want(o != nil, fmt.Sprintf("DialOptions[%d]", i), "nil", "an option")
	}
	problems = append(problems, validateLanes(c.Lanes)...)
	return errors.Join(problems...)
}

func validateLanes(lanes []Lane) []error {
	var problems []error
	names, methods, unary := map[string]bool{"": true}, map[string]string{}, ""
	for i, l := range lanes {
		field := fmt.Sprintf("Lanes[%d]", i)
		if names[l.Name] {
			problems = append(problems, fmt.Errorf("%s.Name is %q, want a name of its own", field, l.Name))
		}
		names[l.Name] = true
		if l.Min < 0 || l.Max < l.Min || l.Max > math.MaxInt32 {
			problems = append(problems, fmt.Errorf("%s has Min %d and Max %d, want 0 <= Min <= Max", field, l.Min, l.Max))
		}
		for _, m := range l.Methods {
			if !strings.HasPrefix(m, "/") || strings.Count(m, "/") != 2 {
				problems = append(problems, fmt.Errorf("%s.Methods has %q, want /pkg.Service/Method or /pkg.Service/", field, m))
			}
			if other, taken := methods[m]; taken {
				problems = append(problems, fmt.Errorf("%s.Methods has %q, which lane %q claims too", field, m, other))
			}
			methods[m] = l.Name
		}
		if l.Unary && unary != "" {
			problems = append(problems, fmt.Errorf("%s.Unary is set, as lane %q has it already", field, unary))
		}
		if l.Unary {
			unary = l.Name
		}
	}
	return problems
}
