package interceptors_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

func tenantOf(ctx context.Context, _ string) string {
	if v := metadata.ValueFromIncomingContext(ctx, "tenant"); len(v) > 0 {
		return v[0]
	}
	return ""
}

func as(ctx context.Context, tenant string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "tenant", tenant)
}

func TestTenants(t *testing.T) {
	bubble(t, func(t *testing.T) {
		keys := make(chan string, 10)
		server := newServer(t, interceptors.ServerConfig{
			Tenant: tenantOf, MaxStreamsPerTenant: 1, MaxTenants: 3, StallTimeout: -1,
		})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server, Service: &interceptorstest.Service{
			Send: interceptorstest.Batches(t, 1, 7), OnCall: func(ctx context.Context) { keys <- flowcontrol.KeyFrom(ctx) },
		}})
		ctx, cancel := context.WithCancel(as(t.Context(), "a"))
		_, err := f.Client.DoExchange(ctx)
		require.NoError(t, err)
		require.Equal(t, "a", <-keys)

		_, err = get(as(t.Context(), "a"), f.Client)
		require.Equal(t, codes.ResourceExhausted, status.Code(err), "a quota is not an overload")
		_, err = get(as(t.Context(), "b"), f.Client)
		require.NoError(t, err)
		_, err = get(t.Context(), f.Client) // nobody's
		require.NoError(t, err)
		idleTenants := server.Stats().Tenants
		require.Equal(t, []interceptors.TenantStats{
			{Tenant: "a", Active: 1, Streams: 1, Started: 1, Rejected: 1, Rejections: []interceptors.Rejection{
				{Class: interceptors.ClassGet, Reason: interceptors.ReasonTenantStreams, Count: 1},
			}},
			{Tenant: "b", Started: 1, Received: idleTenants[1].Received, Sent: idleTenants[1].Sent},
		}, idleTenants)
		require.EqualValues(t, 7, idleTenants[1].Sent.Rows)
		cancel()
		idle(t, nil, server)
		_, err = get(as(t.Context(), "a"), f.Client)
		require.NoError(t, err)
		for _, name := range []string{"c", "d", "e", "f"} {
			_, err = get(as(t.Context(), name), f.Client)
			require.NoError(t, err)
		}
		require.Len(t, server.Stats().Tenants, 3, "names come from outside and must not fill the memory")
	})
}

func TestPriorityTravels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		seen := make(chan flowcontrol.Priority, 10)
		server, client := newServer(t, interceptors.ServerConfig{}), newClient(t, interceptors.ClientConfig{})
		f := interceptorstest.Start(
			t,
			interceptorstest.Config{Server: server, Client: client, Service: &interceptorstest.Service{
				OnCall: func(ctx context.Context) { seen <- flowcontrol.PriorityFrom(ctx) },
			}},
		)
		for _, p := range []flowcontrol.Priority{flowcontrol.Background, flowcontrol.Normal, flowcontrol.Critical} {
			ctx := flowcontrol.WithPriority(t.Context(), p)
			_, err := get(ctx, f.Client)
			require.NoError(t, err)
			require.Equal(t, p, <-seen)
			_, err = f.Client.GetFlightInfo(ctx, &flight.FlightDescriptor{})
			require.NoError(t, err)
			require.Equal(t, p, <-seen)
		}
		for text, want := range map[string]flowcontrol.Priority{
			"99": flowcontrol.Critical, "-99": flowcontrol.Background, "x": flowcontrol.Normal, "4096": flowcontrol.Normal,
		} {
			_, err := get(metadata.AppendToOutgoingContext(t.Context(), interceptors.PriorityKey, text), f.Client)
			require.NoError(t, err)
			require.Equal(t, want, <-seen, text)
		}
	})
}

func TestTapShedsBeforeAnyWork(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 2}})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server, ServerOptions: []grpc.ServerOption{grpc.InTapHandle(server.TapHandle(1))},
		})
		_, err := get(t.Context(), f.Client)
		require.NoError(t, err)
		a, err := gate.Acquire(t.Context(), flowcontrol.Cost{Messages: 2})
		require.NoError(t, err)
		for range 40 {
			_, err = get(t.Context(), f.Client)
			require.Equal(t, codes.Unavailable, status.Code(err))
			_, ok := interceptors.RetryAfter(err)
			require.True(t, ok)
		}
		interceptorstest.Rejected(t, server, interceptors.ReasonTap, 40)
		require.EqualValues(t, 1, server.Stats().Class(interceptors.ClassGet).Started)
		a.Release(flowcontrol.Success)
		_, err = get(t.Context(), f.Client)
		require.NoError(t, err)
		idle(t, gate, server)
	})
}

// span records its events.
type span struct {
	trace.Span
	events *[]string
}

func (span) IsRecording() bool { return true }
func (s span) AddEvent(name string, o ...trace.EventOption) {
	c := trace.NewEventConfig(o...)
	for _, a := range c.Attributes() {
		name += " " + string(a.Key) + "=" + a.Value.String()
	}
	*s.events = append(*s.events, name)
}

func TestTraceEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var events []string
		gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 1}, MaxWait: time.Minute})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server,
			ServerOptions: []grpc.ServerOption{
				grpc.ChainUnaryInterceptor(
					func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
						return h(trace.ContextWithSpan(ctx, span{Span: trace.SpanFromContext(ctx), events: &events}), req)
					},
				),
			},
		})
		permit, err := gate.Acquire(t.Context(), flowcontrol.Cost{Messages: 1})
		require.NoError(t, err)
		time.AfterFunc(30*time.Second, func() { permit.Release(flowcontrol.Success) })
		_, err = f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
		require.NoError(t, err)
		permit, err = gate.Acquire(t.Context(), flowcontrol.Cost{Messages: 1})
		require.NoError(t, err)
		_, err = f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
		require.Equal(t, codes.Unavailable, status.Code(err))
		permit.Release(flowcontrol.Success)
		synctest.Wait()
		require.Equal(t, []string{
			"sluice.wait sluice.wait_seconds=30",
			"sluice.wait sluice.wait_seconds=60",
			"sluice.rejected sluice.reason=max_wait sluice.class=info sluice.code=Unavailable",
		}, events)
	})
}

// The structs convert, which is the compiler's proof that their fields agree.
var (
	_ = flight.ServerMiddleware(interceptors.ServerMiddleware{})
	_ = flight.ClientMiddleware(interceptors.ClientMiddleware{})
)

func TestConfigurationsAreValidated(t *testing.T) {
	_, err := interceptors.NewServer(interceptors.ServerConfig{
		MaxTenants: -1, MaxStreamsPerTenant: 3, Exempt: []string{"x"}, LoadReports: 9,
		Pushback: interceptors.Pushback{
			Min:    time.Minute,
			Max:    time.Second,
			Jitter: 99,
		}, Codes: interceptors.Codes{Overload: 99},
	})
	for _, field := range []string{
		"MaxTenants", "MaxStreamsPerTenant", "Exempt", "LoadReports", "Pushback.Max", "Pushback.Jitter", "Codes.Overload",
	} {
		require.ErrorContains(t, err, field)
	}
	_, err = interceptors.NewClient(
		interceptors.ClientConfig{Retries: -1, Pushback: interceptors.Pushback{Max: 1}, Exempt: []string{""}},
	)
	require.ErrorContains(t, err, "Pushback.Max")
	require.ErrorContains(t, err, "Exempt")
}

func TestServiceConfigIsValid(t *testing.T) {
	for _, o := range []interceptors.ServiceConfigOptions{
		{}, {RetryPut: true, Services: []string{"a.B"}, Balancer: "round_robin", MaxAttempts: 9},
	} {
		conn, err := grpc.NewClient(
			"passthrough:///x",
			grpc.WithDefaultServiceConfig(interceptors.ServiceConfig(o)),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
		)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
}
