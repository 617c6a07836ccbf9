package interceptors_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// Whatever ends a call, nothing of it stays in flight, on either side.
func TestEveryEndGivesEverythingBack(t *testing.T) {
	descriptor := &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"p"}}
	type env struct {
		*interceptorstest.Flight
		put, batches []*flight.FlightData
	}
	ends := map[string]struct {
		service *interceptorstest.Service
		end     func(t *testing.T, e env)
	}{
		"get to its end": {&interceptorstest.Service{Repeat: 3}, func(t *testing.T, e env) {
			n, err := get(t.Context(), e.Client)
			require.NoError(t, err)
			require.Equal(t, 3*len(e.batches), n)
		}},
		"put to its end": {&interceptorstest.Service{Ack: 8, Handle: time.Second}, func(t *testing.T, e env) {
			n, err := put(t.Context(), e.Client, e.put)
			require.NoError(t, err)
			require.Equal(t, len(e.put), n)
		}},
		"unary": {&interceptorstest.Service{Handle: time.Second}, func(t *testing.T, e env) {
			_, err := e.Client.GetFlightInfo(t.Context(), descriptor)
			require.NoError(t, err)
		}},
		"handler error": {
			&interceptorstest.Service{Fail: status.Error(codes.Internal, "told to fail")},
			func(t *testing.T, e env) {
				_, err := get(t.Context(), e.Client)
				require.Equal(t, codes.Internal, status.Code(err))
				_, err = put(t.Context(), e.Client, e.put)
				require.Equal(t, codes.Internal, status.Code(err))
				_, err = e.Client.GetFlightInfo(t.Context(), descriptor)
				require.Equal(t, codes.Internal, status.Code(err))
			},
		},
		"handler panic": {&interceptorstest.Service{Panic: true}, func(t *testing.T, e env) {
			for range 5 {
				_, err := get(t.Context(), e.Client)
				require.Equal(t, codes.Internal, status.Code(err))
				_, err = put(t.Context(), e.Client, e.put)
				require.Equal(t, codes.Internal, status.Code(err))
				_, err = e.Client.GetFlightInfo(t.Context(), descriptor)
				require.Equal(t, codes.Internal, status.Code(err))
			}
		}},
		"cancel while reading": {&interceptorstest.Service{Repeat: 100, Every: time.Second}, func(t *testing.T, e env) {
			ctx, cancel := context.WithCancel(t.Context())
			stream, err := e.Client.DoGet(ctx, &flight.Ticket{})
			require.NoError(t, err)
			_, err = stream.Recv()
			require.NoError(t, err)
			cancel()
		}},
		"cancel without reading": {&interceptorstest.Service{Repeat: 1000}, func(t *testing.T, e env) {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := e.Client.DoGet(ctx, &flight.Ticket{})
			require.NoError(t, err)
			synctest.Wait()
			cancel()
		}},
		"cancel while the message is handled": {&interceptorstest.Service{Handle: time.Hour}, func(t *testing.T, e env) {
			ctx, cancel := context.WithCancel(t.Context())
			stream, err := e.Client.DoPut(ctx)
			require.NoError(t, err)
			require.NoError(t, stream.Send(e.put[0]))
			require.NoError(t, stream.Send(e.put[1]))
			time.Sleep(time.Minute)
			cancel()
		}},
		"deadline": {&interceptorstest.Service{Handle: time.Hour}, func(t *testing.T, e env) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := put(ctx, e.Client, e.put)
			require.Equal(t, codes.DeadlineExceeded, status.Code(err))
			_, err = e.Client.GetFlightInfo(ctx, descriptor)
			require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		}},
		"deadline without reading": {&interceptorstest.Service{Repeat: 1000}, func(t *testing.T, e env) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := e.Client.DoGet(ctx, &flight.Ticket{})
			require.NoError(t, err)
			time.Sleep(2 * time.Minute)
		}},
		"transport break": {&interceptorstest.Service{Handle: time.Hour}, func(t *testing.T, e env) {
			stream, err := e.Client.DoPut(t.Context())
			require.NoError(t, err)
			require.NoError(t, stream.Send(e.put[0]))
			_, err = e.Client.DoGet(t.Context(), &flight.Ticket{})
			require.NoError(t, err)
			synctest.Wait()
			require.NoError(t, e.Client.Close())
		}},
		"closed and never read": {&interceptorstest.Service{Ack: 1}, func(t *testing.T, e env) {
			ctx, cancel := context.WithCancel(t.Context())
			stream, err := e.Client.DoPut(ctx)
			require.NoError(t, err)
			require.NoError(t, stream.Send(e.put[0]))
			require.NoError(t, stream.CloseSend())
			synctest.Wait()
			cancel() // gRPC keeps what nobody reads until then
		}},
		"exchange": {&interceptorstest.Service{}, func(t *testing.T, e env) {
			stream, err := e.Client.DoExchange(t.Context())
			require.NoError(t, err)
			for _, m := range e.put {
				require.NoError(t, stream.Send(m))
				_, err := stream.Recv()
				require.NoError(t, err)
			}
			require.NoError(t, stream.CloseSend())
			n, err := drain(stream)
			require.NoError(t, err)
			require.Zero(t, n)
		}},
	}
	for name, test := range ends {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				batches := interceptorstest.Batches(t, 2, 100)
				test.service.Send = batches
				gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 3}})
				clientGate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 3}})
				server := newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
				client := newClient(t, interceptors.ClientConfig{Throttler: clientGate, StallTimeout: -1})
				f := interceptorstest.Start(t, interceptorstest.Config{
					Service: test.service, Server: server, Client: client, ServerOptions: recovered,
				})
				test.end(t, env{f, interceptorstest.Put(descriptor, batches), batches})
				idle(t, gate, server, client)
				interceptorstest.Empty(t, clientGate)
				require.NotZero(t, server.Stats().Classes)
			})
		})
	}
}

// A message is in flight from when the handler has it until it asks for the next.
func TestInFlightIsWhatIsBeingHandled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 10}})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server, Service: &interceptorstest.Service{Handle: time.Minute},
		})
		stream, err := f.Client.DoPut(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		require.Zero(t, gate.InFlight(), "an open stream holds no room")
		require.EqualValues(t, 1, server.Stats().ActiveStreams)
		for _, m := range interceptorstest.Batches(t, 1, 100) {
			require.NoError(t, stream.Send(m))
		}
		time.Sleep(90 * time.Second) // the schema took the first minute
		require.EqualValues(t, 1, gate.InFlight().Messages)
		require.EqualValues(t, 100, gate.InFlight().Rows)
		require.Equal(t, gate.InFlight().Rows, server.Stats().InFlight.Rows)
		require.Equal(t, gate.InFlight().Bytes, server.Stats().InFlight.Bytes)
		require.NoError(t, stream.CloseSend())
		_, err = drain(stream)
		require.NoError(t, err)
		idle(t, gate, server)
	})
}

// 240 idle streams cost a slot each, and nothing of the gate.
func TestIdleStreamsAreAllAdmitted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 2}})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
		ctx, cancel := context.WithCancel(t.Context())
		for range 240 {
			_, err := f.Client.DoExchange(ctx)
			require.NoError(t, err)
		}
		synctest.Wait()
		require.EqualValues(t, 240, server.Stats().ActiveStreams)
		require.Zero(t, gate.InFlight())
		cancel()
		idle(t, gate, server)
	})
}

// Outside of a bubble, because the collector's cleanups run outside.
func TestAbandonedReaderIsCancelled(t *testing.T) {
	ended := make(chan struct{}, 20)
	server := newServer(t, interceptors.ServerConfig{})
	client := newClient(t, interceptors.ClientConfig{ReapInterval: 5 * time.Millisecond})
	f := interceptorstest.Start(t, interceptorstest.Config{
		Server: server, Client: client,
		Service: &interceptorstest.Service{
			Send:   interceptorstest.Batches(t, 1, 10),
			Repeat: 1 << 30,
			OnEnd:  func(error) { ended <- struct{}{} },
		},
	})
	for range 20 {
		abandon(t, f.Client)
	}
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; n < 20; {
		select {
		case <-ended:
			n++
		case <-tick.C:
			runtime.GC()
		case <-deadline:
			t.Fatalf("only %d of 20 handlers ended", n)
		}
	}
	require.EqualValues(t, 20, client.Stats().Abandoned)
}

func abandon(t *testing.T, c flight.Client) {
	stream, err := c.DoGet(t.Context(), &flight.Ticket{})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
}

// A stream that is shed in the middle: its handler learns why.
func TestShedStreamCancelsItsHandlerWithACause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		causes := make(chan error, 1)
		server := newServer(t, interceptors.ServerConfig{})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server, Service: &interceptorstest.Service{OnEnd: func(err error) { causes <- err }},
		})
		_, err := put(t.Context(), f.Client, []*flight.FlightData{interceptorstest.Bomb(t, 16<<20)})
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		cause, ok := errors.AsType[*interceptors.Error](<-causes)
		require.True(t, ok)
		require.Equal(t, interceptors.ReasonRatio, cause.Reason)
		idle(t, nil, server)
	})
}
