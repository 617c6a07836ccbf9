package connpool

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
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

// What no user should have to tune.
const (
	// targetUtilization of the connections' streams above which a lane grows. It
	// shrinks below three quarters of it, so that a steady load never makes
	// connections come and go.
	targetUtilization = 0.8
	// assumedStreams is how many streams a connection of a server without a limit
	// carries before another is opened: what most HTTP/2 servers and proxies announce.
	assumedStreams = 100
	// defaultQueue bounds the calls that wait in a lane.
	defaultQueue = 1024
	// maxBackoff bounds the growing, jittered pause between two attempts to connect.
	maxBackoff = 30 * time.Second
	// baseBackoff is the pause after the first failed attempt; it grows by
	// backoffFactor, and each pause varies by backoffJitter of itself.
	baseBackoff   = 200 * time.Millisecond
	backoffFactor = 1.6
	backoffJitter = 0.2
	// keepaliveTimeout is how long a keepalive ping, and on Linux a write, may
	// stay unacknowledged.
	keepaliveTimeout = 20 * time.Second
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
	// and lets the other connections become idle.
	FirstHealthy
)

// String names the picker as it stands in logs.
func (p Picker) String() string {
	return name(p, "round_robin", "least_loaded", "power_of_two", "first_healthy")
}

// Abandoned says what the pool does with a stream whose reader was garbage
// collected before the stream ended.
type Abandoned uint8

const (
	// Reclaim cancels the stream, or, when everything was sent on it and only
	// the answer was never read, reads the answer to its end.
	Reclaim Abandoned = iota
	// Leave leaves it open until its context ends, as gRPC does. It is the choice
	// for tests in a testing/synctest bubble: fake time cannot wait for a garbage
	// collection, so Reclaim would end a dropped stream at a random moment.
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
	// Methods that always take this lane: full methods
	// ("/pkg.Service/Method") or whole services ("/pkg.Service/").
	Methods []string
	// Unary sends every unary call that no lane claims by name to this lane.
	// At most one lane may set it.
	Unary bool
}

// Breaker configures the circuit breaker of an endpoint. It counts calls, not
// connections: health checks take out a bad connection, the breaker a bad endpoint.
type Breaker struct {
	// Failures in a row that open the breaker; 0 = no breaker.
	Failures int
	// OpenFor is how long calls are rejected before one may probe, and how long
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
	// Size. Connections are opened at four fifths of the streams that the open
	// ones carry, and closed when the load has been low for IdleTimeout.

	// MaxConnections open at most in the main lane; 0 = 10, or 1 for an
	// "xds:" target, where each connection brings its own set of watchers.
	MaxConnections int
	// MinConnections kept open in the main lane; 0 = 2, at most MaxConnections;
	// negative = none: the last one closes after IdleTimeout and the next call
	// waits for a new one.
	MinConnections int
	// MaxStreamsPerConnection caps what one connection carries, whatever its
	// server allows; 0 = what the server allows.
	MaxStreamsPerConnection int
	// IdleTimeout is how long a connection beyond the minimum may go unused;
	// 0 = 5 min, negative = for ever.
	IdleTimeout time.Duration
	// MaxAge after which a connection is replaced, less up to a tenth of
	// jitter; 0 or negative = never.
	MaxAge time.Duration
	// DrainDeadline after which a draining connection is closed though streams
	// run on it; 0 or negative = never.
	DrainDeadline time.Duration

	// Calls.

	// Picker spreads the calls; the zero value is RoundRobin.
	Picker Picker
	// Lanes beside the main one. A lane named LaneControl replaces the built-in.
	Lanes []Lane
	// QueueSize bounds the calls that wait while every connection is full, in
	// each lane; 0 = 1024, negative = no queue: such a call is rejected
	// at once. A call waits for a connection that is being opened in any case.
	QueueSize int
	// WaitForReady lets every call wait for a healthy connection until its
	// context ends, as grpc.WaitForReady(true) does for one call; false = a call
	// is rejected as soon as the pool knows why no connection is healthy.
	WaitForReady bool
	// MaxRetries bounds how often one call goes to another connection because the
	// first failed before anything of it was sent, and gRPC's own attempts of a
	// service config; 0 = 3, negative = none.
	MaxRetries int
	// Abandoned is the policy for streams that were dropped without an end; the
	// zero value is Reclaim.
	Abandoned Abandoned
	// Breaker of the endpoint; off by default.
	Breaker Breaker

	// Health.

	// ConnectionTimeout bounds one attempt to connect, and one health check;
	// 0 = 10 s.
	ConnectionTimeout time.Duration
	// HealthCheckInterval is the mean time between two checks of a connection;
	// 0 = 30 s, negative = connectivity only.
	HealthCheckInterval time.Duration
	// HealthService is the name asked of grpc.health.v1; "" = the whole server.
	HealthService string
	// Keepalive is the time without a byte from the server after which a
	// connection with open streams is pinged; 0 = 6 min, negative = never. gRPC
	// servers end connections that are pinged more often than every 5 min, unless
	// they have a keepalive.EnforcementPolicy with a smaller MinTime. Health
	// checks, which no server objects to, find a dead connection much sooner.
	Keepalive time.Duration

	// Connection.

	// TLS secures the connections; they share one session cache. TLS or
	// Credentials is required, and nothing is insecure by default.
	TLS *tls.Config
	// Credentials secure the connections, or say that nothing does
	// (insecure.NewCredentials()). They belong here and not among the
	// DialOptions: the pool reads the server's stream limit behind them.
	Credentials credentials.TransportCredentials
	// DialOptions are added to each connection's, after the pool's own.
	// Interceptors belong here, also those of Flight authentication, which
	// flight.NewClientFromConn does not install.
	DialOptions []grpc.DialOption
	// ServiceConfig is the default service config in JSON, such as
	// interceptors.ServiceConfig returns; "" = none. Where it names no balancer,
	// the pool adds pick_first with a shuffled address list, so that connections
	// to one name spread over its addresses.
	ServiceConfig string
	// Logger gets the pool's transitions, never single calls; nil = none.
	Logger *slog.Logger
}

func (c Config) withDefaults(target string) Config {
	if strings.HasPrefix(target, "xds:") {
		c.MaxConnections = cmp.Or(c.MaxConnections, max(1, c.MinConnections))
	}
	c.MaxConnections = cmp.Or(c.MaxConnections, max(10, c.MinConnections))
	c.MinConnections = cmp.Or(c.MinConnections, min(2, c.MaxConnections))
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 5*time.Minute)
	c.ConnectionTimeout = cmp.Or(c.ConnectionTimeout, 10*time.Second)
	c.MaxRetries = cmp.Or(c.MaxRetries, 3)
	c.HealthCheckInterval = cmp.Or(c.HealthCheckInterval, 30*time.Second)
	c.QueueSize = cmp.Or(c.QueueSize, defaultQueue)
	c.Keepalive = cmp.Or(c.Keepalive, 6*time.Minute)
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
	want(c.MinConnections <= c.MaxConnections, "MinConnections", c.MinConnections,
		fmt.Sprintf("at most MaxConnections (%d)", c.MaxConnections))
	want(c.MaxStreamsPerConnection >= 0 && c.MaxStreamsPerConnection <= maxStreams,
		"MaxStreamsPerConnection", c.MaxStreamsPerConnection, fmt.Sprintf("0 to %d", maxStreams))
	want(c.ConnectionTimeout > 0, "ConnectionTimeout", c.ConnectionTimeout, "more than 0")
	want(c.Picker <= FirstHealthy, "Picker", c.Picker, "one of the package's pickers")
	want(c.Abandoned <= Leave, "Abandoned", c.Abandoned, "Reclaim or Leave")
	want(c.Breaker.Failures >= 0, "Breaker.Failures", c.Breaker.Failures, "0 or more")
	want(c.Breaker.OpenFor > 0, "Breaker.OpenFor", c.Breaker.OpenFor, "more than 0")
	want(c.Breaker.Probes >= 1, "Breaker.Probes", c.Breaker.Probes, "at least 1")
	want(c.TLS == nil || c.Credentials == nil, "Credentials", "set beside TLS", "only one of both")
	for i, o := range c.DialOptions {
		want(o != nil, fmt.Sprintf("DialOptions[%d]", i), "nil", "an option")
	}
	if _, err := withBalancer(c.ServiceConfig); err != nil {
		problems = append(problems, fmt.Errorf("ServiceConfig is no JSON object: %w", err))
	}
	problems = append(problems, validateLanes(c.Lanes)...)
	return errors.Join(problems...)
}

func validateLanes(lanes []Lane) []error {
	var problems []error
	names, methods, unary := map[string]bool{"": true}, map[string]string{}, ""
	for i, l := range lanes {
		problem := func(format string, args ...any) {
			problems = append(problems, fmt.Errorf("Lanes[%d]"+format, append([]any{i}, args...)...))
		}
		if names[l.Name] {
			problem(".Name is %q, want a name of its own", l.Name)
		}
		names[l.Name] = true
		if l.Min < 0 || l.Max < l.Min || l.Max > math.MaxInt32 {
			problem(" has Min %d and Max %d, want 0 <= Min <= Max", l.Min, l.Max)
		}
		for _, m := range l.Methods {
			if !strings.HasPrefix(m, "/") || strings.Count(m, "/") != 2 {
				problem(".Methods has %q, want /pkg.Service/Method or /pkg.Service/", m)
			}
			if other, taken := methods[m]; taken {
				problem(".Methods has %q, which lane %q claims too", m, other)
			}
			methods[m] = l.Name
		}
		if l.Unary && unary != "" {
			problem(".Unary is set, as lane %q has it already", unary)
		}
		if l.Unary {
			unary = l.Name
		}
	}
	return problems
}

// withBalancer adds the pool's balancer to a service config that names none.
// Connections to one name spread over its addresses only when each shuffles
// them: pick_first alone puts all of them on the first.
func withBalancer(serviceConfig string) (string, error) {
	config := map[string]json.RawMessage{}
	if serviceConfig != "" {
		if err := json.Unmarshal([]byte(serviceConfig), &config); err != nil {
			return "", err
		}
	}
	for _, field := range []string{"loadBalancingConfig", "loadBalancingPolicy"} {
		if _, named := config[field]; named {
			return serviceConfig, nil
		}
	}
	if config == nil { // the text was "null"
		return "", errors.New("null")
	}
	config["loadBalancingConfig"] = json.RawMessage(`[{"pick_first":{"shuffleAddressList":true}}]`)
	text, err := json.Marshal(config)
	return string(text), err
}
