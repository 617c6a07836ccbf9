package agent

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/topology"
)

// Config configures an [Agent]. A zero field is its default. What a component must
// give is Endpoint, Component.ID and Report; what makes it follow is Targets.
type Config struct {
	// Endpoint is the control plane's gRPC endpoint, host:port. Required, unless
	// Conn is given.
	Endpoint string
	// Conn is used instead of dialling Endpoint; the agent does not close it. Its
	// own connection backoff applies: gRPC's default reaches two minutes.
	Conn grpc.ClientConnInterface
	// TLS, if not nil, secures the connection; with Certificates in it, mutually.
	// Default: plaintext.
	TLS *tls.Config
	// Token, if set, is sent as bearer token with every call. Without TLS it
	// travels in the clear: fit for loopback alone.
	Token string
	// DialOptions are added to those that follow from TLS, Token and the backoff.
	DialOptions []grpc.DialOption

	// Component is what registers. Its ID is required.
	Component controlplane.Component
	// Report returns the component's load now: a few atomic reads, called every
	// 100 ms from one of the agent's goroutines, sometimes from two at once. It must
	// not block, or the agent falls silent. ServiceID, Kind, Upstreams and Fraction
	// are filled in; MaxInFlight is Component.MaxInFlight where it is 0. Required.
	Report func() backpressure.Report
	// Metrics returns further metrics for the heartbeats, by the keys of the
	// Metric constants or own ones, once a heartbeat. What Report says need not be
	// repeated. The map may be used again at the next call. Nil: none.
	Metrics func() map[string]float64
	// Edges returns the connections to upstreams that the component has seen
	// itself use: From, or where that is empty Endpoint, says which. Nil: none.
	Edges func() []topology.Edge
	// Targets are set to the fraction at every change, in order, by one goroutine at
	// a time. A *flowcontrol.Throttler is one. SetFraction must not block.
	Targets []backpressure.FractionSetter

	// HeartbeatInterval is how often an idle component reports to the control
	// plane. It bounds how soon each end misses the other: the control plane counts
	// the component as stale after three, 30 s at least, and the agent leaves a
	// control plane that has been silent for three. Default 10 s.
	HeartbeatInterval time.Duration
	// Local configures the decision that the agent makes by itself while no
	// control plane decides: thresholds above all. While one decides, its settings
	// count and these do not. Local.Interval is also how often a component under
	// backpressure reports, and how soon a lost control plane's signal ages: it
	// holds for three of them, and is the safe one after six.
	Local backpressure.Config
	// CallTimeout bounds one call to the control plane, and one attempt to connect.
	// Streams have no bound. Default 5 s.
	CallTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause between attempts to connect to the
	// control plane, and between calls that it rejects; it doubles and is jittered.
	// Once the control plane can be reached, the agent is back within MaxBackoff.
	// Default 200 ms and 10 s.
	MinBackoff, MaxBackoff time.Duration
	// Logger receives connections and transitions. Default: silence.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.HeartbeatInterval = cmp.Or(c.HeartbeatInterval, controlplane.DefaultHeartbeatInterval)
	c.CallTimeout = cmp.Or(c.CallTimeout, 5*time.Second)
	c.MinBackoff = cmp.Or(c.MinBackoff, 200*time.Millisecond)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, max(10*time.Second, c.MinBackoff))
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	var problems []error
	if c.Endpoint == "" && c.Conn == nil {
		problems = append(problems, errors.New("Endpoint is empty, want host:port"))
	}
	if err := backpressure.CheckID(c.Component.ID); err != nil {
		problems = append(problems, fmt.Errorf("Component.ID: %w", err))
	}
	if c.Report == nil {
		problems = append(problems, errors.New("Report is nil, want the component's load"))
	}
	for _, d := range [...]struct {
		name string
		v    time.Duration
	}{
		{"HeartbeatInterval", c.HeartbeatInterval},
		{"CallTimeout", c.CallTimeout},
		{"MinBackoff", c.MinBackoff},
		{"MaxBackoff", c.MaxBackoff},
	} {
		if d.v <= 0 {
			problems = append(problems, fmt.Errorf("%s is %v, want above 0", d.name, d.v))
		}
	}
	if c.MaxBackoff < c.MinBackoff {
		problems = append(problems, fmt.Errorf("MaxBackoff is %v, want MinBackoff (%v) or more", c.MaxBackoff, c.MinBackoff))
	}
	return errors.Join(problems...)
}

// window is gRPC's least flow-control window. A fixed one switches off the
// bandwidth estimate, which answers every message with a ping.
const window = 64 << 10

// jitter is the share by which gRPC's pauses vary, up and down.
const jitter = 0.3

// dialOptions are those of a connection that carries a hundred bytes a second: small
// buffers, and one backoff, gRPC's, under the agent's settings. With a second one
// around it an agent slept on while its control plane was back.
func (c Config) dialOptions() []grpc.DialOption {
	secure := insecure.NewCredentials()
	if c.TLS != nil {
		secure = credentials.NewTLS(c.TLS)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(secure),
		grpc.WithReadBufferSize(4 << 10),
		grpc.WithWriteBufferSize(4 << 10),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithStaticStreamWindowSize(window),
		// gRPC's own pause grows to two minutes: an agent would come back that
		// long after its control plane.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: c.MinBackoff, Multiplier: 2, Jitter: jitter,
				MaxDelay: time.Duration(float64(c.MaxBackoff) / (1 + jitter)),
			},
			MinConnectTimeout: c.CallTimeout,
		}),
	}
	if c.Token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer{token: c.Token, secure: c.TLS != nil}))
	}
	return append(options, c.DialOptions...)
}

// A bearer is a token as gRPC credentials for each call.
type bearer struct {
	token  string
	secure bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.secure }
