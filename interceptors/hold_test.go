package interceptors_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// a subscription is a DoExchange that takes one request and then only sends, or waits.
type subscription struct {
	interceptorstest.Service
	every time.Duration // 0 never sends
}

func (s *subscription) DoExchange(stream flight.FlightService_DoExchangeServer) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	if s.every == 0 {
		<-stream.Context().Done()
		return context.Cause(stream.Context())
	}
	for {
		if err := stream.Send(m); err != nil {
			return err
		}
		select {
		case <-time.After(s.every):
		case <-stream.Context().Done():
			return context.Cause(stream.Context())
		}
	}
}

// A stream holds room for what its handler works on, and for nothing else: not
// while it sends, however slowly its peer reads, and for a bounded time while it
// does neither.
func TestStreamsThatHoldNothingHoldNoRoom(t *testing.T) {
	for name, test := range map[string]struct {
		service flight.FlightServer
		clients int
		reads   bool
		sends   int
		after   time.Duration // when their room is back
	}{
		"64 subscriptions that receive":   {&subscription{every: time.Second}, 64, true, 1, 0},
		"four echoes that are never read": {&interceptorstest.Service{}, 4, false, 200, 0},
		"four handlers that wait":         {&subscription{}, 4, true, 1, 75 * time.Second},
	} {
		for _, side := range []string{"server", "client"} {
			t.Run(name+", gate of the "+side, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: int64(test.clients)}})
					cfg := interceptorstest.Config{Service: test.service}
					if side == "server" {
						cfg.Server = newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
					} else {
						cfg.Client = newClient(t, interceptors.ClientConfig{Throttler: gate, StallTimeout: -1})
					}
					f := interceptorstest.Start(t, cfg)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					messages := interceptorstest.Batches(t, 1, 1000)
					for range test.clients {
						stream, err := f.Client.DoExchange(ctx)
						require.NoError(t, err)
						go func() {
							for range test.sends {
								if stream.Send(messages[1]) != nil {
									return
								}
							}
						}()
						if test.reads {
							go drain(stream)
						}
					}
					time.Sleep(test.after + 10*time.Millisecond)
					if side == "server" || test.after == 0 {
						require.Less(t, gate.Load(), 1.0)
					}
					began := time.Now()
					_, err := f.Client.GetFlightInfo(ctx, &flight.FlightDescriptor{})
					require.NoError(t, err)
					_, err = get(ctx, f.Client)
					require.NoError(t, err)
					require.Zero(t, time.Since(began))
					cancel()
					synctest.Wait()
					require.Zero(t, gate.InFlight())
				})
			})
		}
	}
}
