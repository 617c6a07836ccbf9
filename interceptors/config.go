package interceptors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// The defaults, which the comments of their fields name.
const (
	defaultMaxActiveStreams     = 1000
	defaultMaxMessageBytes      = 64 << 20
	defaultMaxUncompressedBytes = 256 << 20
	defaultMaxRatio             = 1000
	defaultMinPushback          = 50 * time.Millisecond
	defaultMaxPushback          = 30 * time.Second
	defaultJitter               = 0.4
	defaultStallTimeout         = 5 * time.Minute
	defaultMaxMessageHold       = time.Minute
	defaultRetries              = 2
	defaultReapInterval         = 10 * time.Second
)

// ratioFloor is what a message may claim at any ratio: a column of zeros
// shrinks by more than a thousand, and harms nobody while it is small.
const ratioFloor = 4 << 20

// A Policy says how far a class of calls is governed.
type Policy uint8

const (
	// PolicyDefault is PolicyPaced for bulk classes ([Class.Bulk]), PolicyAdmitted for the others.
	PolicyDefault Policy = iota
	// PolicyPaced admits the call, and lets each of its messages wait.
	PolicyPaced
	// PolicyAdmitted admits the call, and counts its messages.
	PolicyAdmitted
	// PolicyTracked counts, and delays or rejects nothing but what breaks a guard.
	PolicyTracked
)

// Guards bound what one message may be. They are checked before anything decodes it.
type Guards struct {
	// MaxMessageBytes bounds a message: header, body and metadata of a FlightData,
	// all of any other, unary ones and a proxy's frames included. Zero is
	// 64 MiB; negative is no bound. gRPC has a limit of its own,
	// 4 MiB unless it is changed: a positive value here becomes it too, in
	// [Server.ServerOptions] and [Client.DialOptions].
	MaxMessageBytes int64
	// MaxUncompressedBytes bounds what a message claims to take when decoded: its
	// buffers, and the window that its compressor asks for. Zero is
	// 256 MiB; negative is no bound.
	MaxUncompressedBytes int64
	// MaxRatio bounds claimed over actual body bytes, for claims above 4 MiB.
	// Zero is 1,000; negative is no bound.
	MaxRatio int64
}

func (g Guards) withDefaults() Guards {
	g.MaxMessageBytes = cmp.Or(g.MaxMessageBytes, defaultMaxMessageBytes)
	g.MaxUncompressedBytes = cmp.Or(g.MaxUncompressedBytes, defaultMaxUncompressedBytes)
	g.MaxRatio = cmp.Or(g.MaxRatio, defaultMaxRatio)
	return g
}

// Codes says with which status code a rejection answers. The zero value of each
// field is its default, chosen so that clients do the right thing: pyarrow and
// C++ take RESOURCE_EXHAUSTED for an invalid argument and never come back.
type Codes struct {
	// Overload answers "not now": default UNAVAILABLE.
	Overload codes.Code
	// Quota answers "not that much for you": default RESOURCE_EXHAUSTED.
	Quota codes.Code
	// TooLarge answers what can never fit, and what breaks a guard: default INVALID_ARGUMENT.
	TooLarge codes.Code
	// Draining answers while the server shuts down: default UNAVAILABLE.
	Draining codes.Code
	// Stalled answers a stream that the watchdog ended: default ABORTED.
	Stalled codes.Code
}

func (c Codes) withDefaults() Codes {
	c.Overload = cmp.Or(c.Overload, codes.Unavailable)
	c.Quota = cmp.Or(c.Quota, codes.ResourceExhausted)
	c.TooLarge = cmp.Or(c.TooLarge, codes.InvalidArgument)
	c.Draining = cmp.Or(c.Draining, codes.Unavailable)
	c.Stalled = cmp.Or(c.Stalled, codes.Aborted)
	return c
}

// Pushback says when a rejected client is told to come back.
type Pushback struct {
	// Min is the shortest delay, given where the gate knows none. Default 50 ms.
	Min time.Duration
	// Max bounds the delay. Default 30 s.
	Max time.Duration
	// Jitter spreads the delay over [d, d*(1+Jitter)]: clients come back after
	// exactly what they are told, all at once if they are all told the same.
	// Never below d, because before d there is nothing to have. Default
	// 0.4; negative is none.
	Jitter float64
}

func (p Pushback) withDefaults() Pushback {
	p.Min = cmp.Or(p.Min, defaultMinPushback)
	p.Max = cmp.Or(p.Max, defaultMaxPushback)
	p.Jitter = cmp.Or(p.Jitter, defaultJitter)
	return p
}

// ServerConfig configures a [Server]. Its zero value tracks and guards, and
// limits the number of streams.
type ServerConfig struct {
	// Throttler is the gate that calls and messages pass, as a rule a
	// *flowcontrol.Throttler. Nil, a nil pointer included: they are counted and
	// guarded only.
	Throttler Gate
	// MaxActiveStreams bounds the open streams, idle ones included. Zero is
	// 1,000; negative is no bound.
	MaxActiveStreams int
	// Tenant names whose call it is; nil or an empty name is nobody's. It runs
	// once a call, and its result is the throttler's key too. Bounded by
	// MaxTenants names at a time.
	Tenant func(ctx context.Context, fullMethod string) string
	// MaxStreamsPerTenant bounds the open streams of one tenant. Zero and negative are no bound.
	MaxStreamsPerTenant int
	// MaxTenants bounds how many idle tenants are remembered in [Stats]. Zero is 1000.
	MaxTenants int
	// Priority ranks a call. Nil reads what [Client] sent in the metadata
	// "sluice-priority": set it where clients cannot be trusted to rank themselves.
	Priority func(ctx context.Context, fullMethod string) flowcontrol.Priority
	// Exempt lists more methods that pass untouched, as "/package.Service/Method"
	// or "/package.Service/". Health, reflection, channelz, ORCA and Flight's
	// Handshake always do.
	Exempt []string
	// Policy overrides how far a class is governed. Nil, and [PolicyDefault], leave it as it is.
	Policy func(Class) Policy
	// Guards bound each message that clients send.
	Guards Guards
	// WeighUncompressed makes a compressed message weigh, in the byte limits, what
	// it takes when decoded, by its own claim, instead of what is on the wire.
	WeighUncompressed bool
	// Codes are the status codes of rejections.
	Codes Codes
	// Pushback says when rejected clients come back.
	Pushback Pushback
	// MaxMessageWait ends a stream whose message waited longer. Zero and negative
	// are no bound: the wait is what slows the sender, and ends with the call's deadline.
	MaxMessageWait time.Duration
	// MaxMessageHold bounds how long a received message holds its room at the gate
	// while its handler neither asks for the next one nor sends: a handler that
	// waits for an event, or hangs, holds nothing against others then. The message
	// goes on, and is still listed as in flight. It is checked four times in this
	// time. Zero is a minute; negative is no bound.
	MaxMessageHold time.Duration
	// StallTimeout ends a DoPut, DoExchange or any other stream of both
	// directions whose SendMsg makes no progress for so long: its client does not
	// read what it is sent. Zero is 5 minutes; negative is never.
	StallTimeout time.Duration
	// LoadReports offers the load to gRPC's weighted round robin. Default off.
	LoadReports LoadReports
	// Logger logs the streams that were ended. Nil discards.
	Logger *slog.Logger
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.Throttler = gateOf(c.Throttler)
	c.MaxActiveStreams = cmp.Or(c.MaxActiveStreams, defaultMaxActiveStreams)
	c.MaxTenants = cmp.Or(c.MaxTenants, 1000)
	c.Guards = c.Guards.withDefaults()
	c.Codes = c.Codes.withDefaults()
	c.Pushback = c.Pushback.withDefaults()
	c.MaxMessageHold = cmp.Or(c.MaxMessageHold, defaultMaxMessageHold)
	c.StallTimeout = cmp.Or(c.StallTimeout, defaultStallTimeout)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c ServerConfig) validate() error {
	return errors.Join(
		validateCommon(c.Exempt, c.Codes, c.Pushback),
		check(c.MaxTenants > 0, "MaxTenants", c.MaxTenants, "positive"),
		check(c.LoadReports <= LoadReportsAll, "LoadReports", c.LoadReports, "one of the LoadReports constants"),
		check(c.MaxStreamsPerTenant <= 0 || c.Tenant != nil,
			"MaxStreamsPerTenant", c.MaxStreamsPerTenant, "0 while Tenant is nil"),
	)
}

// ClientConfig configures a [Client]. Its zero value tracks, guards, and honours what servers ask.
type ClientConfig struct {
	// Throttler is the gate that calls and messages pass, as a rule a
	// *flowcontrol.Throttler. Nil, a nil pointer included: they are counted and
	// guarded only.
	Throttler Gate
	// MaxActiveStreams bounds the open streams. Zero is 1,000; negative is no bound.
	MaxActiveStreams int
	// Exempt lists more methods that pass untouched, as in [ServerConfig].
	Exempt []string
	// Policy overrides how far a class is governed, as in [ServerConfig].
	Policy func(Class) Policy
	// Guards bound each message that servers send.
	Guards Guards
	// WeighUncompressed makes a compressed message weigh, in the byte limits, what
	// it takes when decoded, by its own claim, instead of what is on the wire.
	WeighUncompressed bool
	// Codes are the status codes of the client's own rejections.
	Codes Codes
	// Pushback says when the client's own rejections may be tried again.
	Pushback Pushback
	// MaxMessageWait ends a stream whose message waited longer. Zero and negative are no bound.
	MaxMessageWait time.Duration
	// MaxMessageHold bounds how long a received message holds its room at the gate,
	// as in [ServerConfig].
	MaxMessageHold time.Duration
	// Retries is how often a unary call or a DoGet (any server stream) that was
	// rejected with RetryInfo is tried again, after the delay that the server asked
	// for, while nothing of its answer has been received. The Client announces it
	// in the metadata, and a [Server] then tells gRPC not to retry the rejection
	// too; UNAVAILABLE from any other server is left to gRPC's service config. Zero
	// is 2, so a call is tried three times; negative leaves all retries to gRPC. A
	// budget stops retries when as many have failed as calls are under way.
	Retries int
	// StallTimeout ends a DoPut, DoExchange or other client stream whose SendMsg
	// makes no progress for so long while nobody waits in RecvMsg: the server may
	// be stuck in sending what is not read. Where a server may pause for longer,
	// read beside sending, or raise it. Zero is 5 minutes; negative is never.
	StallTimeout time.Duration
	// ReapInterval is how often streams are looked for that nobody holds any more,
	// while any stream is open. Zero is 10 s; negative is never.
	ReapInterval time.Duration
	// Logger logs the streams that were ended. Nil discards.
	Logger *slog.Logger
}

func (c ClientConfig) withDefaults() ClientConfig {
	c.Throttler = gateOf(c.Throttler)
	c.MaxActiveStreams = cmp.Or(c.MaxActiveStreams, defaultMaxActiveStreams)
	c.Guards = c.Guards.withDefaults()
	c.Codes = c.Codes.withDefaults()
	c.Pushback = c.Pushback.withDefaults()
	c.Retries = cmp.Or(c.Retries, defaultRetries)
	c.MaxMessageHold = cmp.Or(c.MaxMessageHold, defaultMaxMessageHold)
	c.StallTimeout = cmp.Or(c.StallTimeout, defaultStallTimeout)
	c.ReapInterval = cmp.Or(c.ReapInterval, defaultReapInterval)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c ClientConfig) validate() error {
	return errors.Join(
		validateCommon(c.Exempt, c.Codes, c.Pushback),
	)
}

func validateCommon(exempt []string, c Codes, p Pushback) error {
	errs := []error{
		check(p.Min > 0, "Pushback.Min", p.Min, "positive"),
		check(p.Max >= p.Min, "Pushback.Max", p.Max, "at least Pushback.Min"),
		check(p.Jitter <= 10, "Pushback.Jitter", p.Jitter, "at most 10"),
	}
	for _, e := range exempt {
		errs = append(errs, check(len(e) > 2 && e[0] == '/', "Exempt", e, `"/package.Service/Method" or "/package.Service/"`))
	}
	for name, code := range map[string]codes.Code{
		"Overload": c.Overload, "Quota": c.Quota, "TooLarge": c.TooLarge, "Draining": c.Draining, "Stalled": c.Stalled,
	} {
		ok := code > codes.OK && code <= codes.Unauthenticated
		errs = append(errs, check(ok, "Codes."+name, code, "an error code of gRPC"))
	}
	return errors.Join(errs...)
}

func check(ok bool, field string, value any, want string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("interceptors: %s is %v, want %s", field, value, want)
}
