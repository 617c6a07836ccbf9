package interceptors_test

import (
	"context"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// reasonOf reads the reason of a rejection as a client of any language does.
func reasonOf(t *testing.T, err error) string {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == interceptors.ErrorDomain {
			return info.GetReason()
		}
	}
	return ""
}

// A tenant above its rate is told so, and when its next token comes; the others
// go on. The rejection is in the series of its class and of its tenant.
func TestRateForEachTenant(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{
			MaxKeys: 8, KeyRate: flowcontrol.Rates{Messages: 0.1}, KeyBurst: flowcontrol.Cost{Messages: 1},
			KeyRateOf: func(key string) (flowcontrol.Rates, flowcontrol.Cost) {
				if key == "gold" {
					return flowcontrol.Rates{Messages: 1000}, flowcontrol.Cost{Messages: 100}
				}
				return flowcontrol.Rates{Messages: 0.1}, flowcontrol.Cost{Messages: 1}
			},
			MaxWait: time.Second,
		})
		server := newServer(t, interceptors.ServerConfig{
			Throttler: gate, Tenant: tenantOf, Pushback: interceptors.Pushback{Jitter: -1}, StallTimeout: -1,
		})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
		info := func(ctx context.Context) error {
			_, err := f.Client.GetFlightInfo(ctx, &flight.FlightDescriptor{})
			return err
		}
		require.NoError(t, info(as(t.Context(), "plain")))
		soon, cancel := context.WithTimeout(as(t.Context(), "plain"), 5*time.Second)
		defer cancel()
		for name, ctx := range map[string]context.Context{"MaxWait": as(t.Context(), "plain"), "deadline": soon} {
			err := info(ctx)
			require.Equal(t, codes.ResourceExhausted, status.Code(err), name)
			require.Equal(t, "tenant_rate", reasonOf(t, err), name)
			delay, ok := interceptors.RetryAfter(err)
			require.True(t, ok, name)
			require.InDelta(t, 10*time.Second, delay, float64(time.Millisecond), name)
		}
		for range 50 {
			require.NoError(t, info(as(t.Context(), "gold")))
			require.NoError(t, info(t.Context())) // nobody's: the empty key's own bucket has but one token
			time.Sleep(10 * time.Second)
		}
		require.NoError(t, info(as(t.Context(), "plain")), "its token has come")

		st := server.Stats()
		require.EqualValues(t, 2, st.Rejected("tenant_rate"))
		for _, tenant := range st.Tenants {
			if tenant.Tenant == "plain" {
				require.Equal(t, []interceptors.Rejection{
					{Class: interceptors.ClassInfo, Reason: "tenant_rate", Count: 2},
				}, tenant.Rejections)
			} else {
				require.Zero(t, tenant.Rejected)
			}
		}
		require.EqualValues(t, 2, gate.Stats().Rejected.Of(flowcontrol.ReasonTenantRate))
		idle(t, gate, server)
	})
}

// The messages of a stream wait for their tenant's tokens, and for nobody else's.
func TestRateOfATenantPacesItsStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{
			MaxKeys: 8, KeyRate: flowcontrol.Rates{Rows: 100}, KeyBurst: flowcontrol.Cost{Rows: 10},
		})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate, Tenant: tenantOf, StallTimeout: -1})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server, Service: &interceptorstest.Service{Send: interceptorstest.Batches(t, 21, 10)},
		})
		took := make(chan time.Duration, 4)
		began := time.Now()
		for _, tenant := range []string{"a", "b"} {
			go func() {
				_, err := get(as(t.Context(), tenant), f.Client)
				require.NoError(t, err)
				took <- time.Since(began)
			}()
			go func() {
				_, err := put(as(t.Context(), tenant+" puts"), f.Client, interceptorstest.Batches(t, 21, 10))
				require.NoError(t, err)
				took <- time.Since(began)
			}()
		}
		for range 4 {
			require.InDelta(t, 2*time.Second, <-took, float64(100*time.Millisecond))
		}
		require.Zero(t, server.Stats().Rejections)
		idle(t, gate, server)
	})
}
