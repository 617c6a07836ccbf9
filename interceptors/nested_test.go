package interceptors_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// a proxy passes every call on to next, with its handler's context.
type proxy struct {
	flight.BaseFlightServer
	next flight.Client
}

func (p *proxy) GetFlightInfo(ctx context.Context, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return p.next.GetFlightInfo(ctx, d)
}

func (p *proxy) DoGet(t *flight.Ticket, out flight.FlightService_DoGetServer) error {
	in, err := p.next.DoGet(out.Context(), t)
	if err != nil {
		return err
	}
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.Send(m); err != nil {
			return err
		}
	}
}

func (p *proxy) DoPut(in flight.FlightService_DoPutServer) error {
	out, err := p.next.DoPut(in.Context())
	if err != nil {
		return err
	}
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			_ = out.CloseSend()
			_, err = drain(out)
			return err
		}
		if err != nil {
			return err
		}
		if err := out.Send(m); err != nil {
			return err
		}
		// A nested unary call while the message holds its room.
		if _, err := p.next.GetFlightInfo(in.Context(), &flight.FlightDescriptor{}); err != nil {
			return err
		}
	}
}

// One gate for the Server and the Client of a proxy: the call that is made for
// another one rides on its permit, and does not wait for what its caller holds.
func TestOneGateForAProxy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 4}})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
		client := newClient(t, interceptors.ClientConfig{Throttler: gate, StallTimeout: -1})
		messages := interceptorstest.Batches(t, 3, 10)
		origin := interceptorstest.Start(t, interceptorstest.Config{
			Client: client, Service: &interceptorstest.Service{Send: messages, Handle: time.Second, Ack: 1},
		})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server, Service: &proxy{next: origin.Client}})
		ends := make(chan error, 12)
		for range 4 {
			go func() {
				_, err := f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
				ends <- err
			}()
			go func() { _, err := get(t.Context(), f.Client); ends <- err }()
			go func() { _, err := put(t.Context(), f.Client, messages); ends <- err }()
		}
		began := time.Now()
		for range 12 {
			require.NoError(t, <-ends)
		}
		require.Less(t, time.Since(began), time.Minute)
		require.EqualValues(t, 20, client.Stats().Class(interceptors.ClassInfo).Completed)
		st := gate.Stats()
		require.EqualValues(
			t,
			12+12+4,
			st.Admitted,
			"the calls and the messages of the DoPuts, once each, with their schemas",
		)
		idle(t, gate, server, client)

		// A call that is made for one that has ended stands for itself.
		held, err := gate.Acquire(t.Context(), flowcontrol.Cost{Messages: 4})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = origin.Client.GetFlightInfo(ctx, &flight.FlightDescriptor{})
		require.Error(t, err)
		held.Release(flowcontrol.Ignored)
	})
}

// Two Servers with one gate, one inside the other, ask it once.
func TestOneGateForTwoServers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 1}})
		outer := newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
		inner := newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: outer, ServerMiddleware: []flight.ServerMiddleware{flight.ServerMiddleware(inner.Middleware())},
		})
		_, err := f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
		require.NoError(t, err)
		_, err = put(t.Context(), f.Client, interceptorstest.Batches(t, 2, 10))
		require.NoError(t, err)
		idle(t, gate, outer, inner)
	})
}

// What ends a stream from outside reaches the wire behind a second Server too.
func TestWatchdogAndDrainBehindASecondServer(t *testing.T) {
	for name, stall := range map[string]time.Duration{"watchdog": 10 * time.Second, "drain": -1} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				outer := newServer(t, interceptors.ServerConfig{StallTimeout: -1})
				inner := newServer(t, interceptors.ServerConfig{StallTimeout: stall})
				f := interceptorstest.Start(t, interceptorstest.Config{
					Server: outer, ServerMiddleware: []flight.ServerMiddleware{flight.ServerMiddleware(inner.Middleware())},
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				for range 3 {
					stream, err := f.Client.DoExchange(ctx)
					require.NoError(t, err)
					go func() {
						for stream.Send(interceptorstest.Batches(t, 1, 1000)[1]) == nil {
						}
					}()
				}
				time.Sleep(time.Second)
				if name == "drain" {
					soon, stop := context.WithTimeout(t.Context(), time.Second)
					defer stop()
					require.Error(t, inner.Drain(soon))
				} else {
					time.Sleep(15 * time.Second)
				}
				synctest.Wait()
				interceptorstest.Idle(t, inner)
				interceptorstest.Idle(t, outer)
			})
		})
	}
}

// A panic of an interceptor inside ours, or of a gate, which the caller
// recovers, takes no slot with it.
func TestPanicsLeakNoSlot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broken := func(
			context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			panic("told to panic")
		}
		client := newClient(t, interceptors.ClientConfig{MaxActiveStreams: 2})
		f := interceptorstest.Start(t, interceptorstest.Config{Client: client})
		chain := client.Middleware().Stream
		for range 5 {
			require.Panics(t, func() {
				_, _ = chain(t.Context(), &grpc.StreamDesc{ServerStreams: true}, nil, "/s/m", broken)
			})
		}
		_, err := get(t.Context(), f.Client)
		require.NoError(t, err)
		idle(t, nil, client)

		gate := &brokenGate{}
		server := newServer(t, interceptors.ServerConfig{Throttler: gate, MaxActiveStreams: 2})
		governed := newClient(t, interceptors.ClientConfig{Throttler: gate, MaxActiveStreams: 2})
		f = interceptorstest.Start(t, interceptorstest.Config{Server: server, ServerOptions: recovered})
		for range 5 {
			_, err := get(t.Context(), f.Client)
			require.ErrorContains(t, err, "told to panic")
			_, err = f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
			require.ErrorContains(t, err, "told to panic")
			require.Panics(t, func() {
				_, _ = governed.Middleware().Stream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, nil, "/s/m", nil)
			})
			require.Panics(t, func() {
				_ = governed.Middleware().Unary(t.Context(), "/s/m", nil, nil, nil, nil)
			})
		}
		idle(t, nil, server, governed)
	})
}

type brokenGate struct{}

func (*brokenGate) Acquire(context.Context, flowcontrol.Cost) (flowcontrol.Permit, error) {
	panic("told to panic")
}

func (*brokenGate) Pace(context.Context, flowcontrol.Cost) error { panic("told to panic") }
