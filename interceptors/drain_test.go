package interceptors_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

func TestDrainLetsTheOldFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(t, interceptors.ServerConfig{})
		f := interceptorstest.Start(
			t,
			interceptorstest.Config{
				Server:  server,
				Service: &interceptorstest.Service{Send: interceptorstest.Batches(t, 5, 1), Every: time.Minute},
			},
		)
		stream, err := f.Client.DoGet(t.Context(), &flight.Ticket{})
		require.NoError(t, err)
		_, err = stream.Recv()
		require.NoError(t, err)
		drained := make(chan error, 1)
		began := time.Now()
		go func() { drained <- server.Drain(context.Background()) }()
		synctest.Wait()
		require.True(t, server.Stats().Draining)
		_, err = get(t.Context(), f.Client)
		require.Equal(t, codes.Unavailable, status.Code(err))
		_, err = f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
		require.Equal(t, codes.Unavailable, status.Code(err))
		n, err := drain(stream)
		require.NoError(t, err)
		require.Equal(t, 5, n)
		require.NoError(t, <-drained)
		require.Equal(t, 5*time.Minute, time.Since(began))
		require.NoError(t, server.Drain(context.Background()), "again, at once")
	})
}

// An endless DoGet whose reader does not read is blocked in SendMsg, where its
// context does not reach it. Drain ends it all the same.
func TestDrainCancelsWhatIsLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		causes := make(chan error, 4)
		server := newServer(t, interceptors.ServerConfig{StallTimeout: -1})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server, Service: &interceptorstest.Service{
			Send: interceptorstest.Batches(t, 1, 10_000), Repeat: 1 << 30, Handle: time.Hour,
			OnEnd: func(err error) { causes <- err },
		}})
		stream, err := f.Client.DoGet(t.Context(), &flight.Ticket{}) // stuck in SendMsg
		require.NoError(t, err)
		putting, err := f.Client.DoPut(t.Context()) // waits in RecvMsg
		require.NoError(t, err)
		handling, err := f.Client.DoPut(t.Context()) // handles for an hour
		require.NoError(t, err)
		require.NoError(t, handling.Send(interceptorstest.Batches(t, 1, 1)[1]))
		unary := make(chan error, 1)
		go func() {
			_, err := f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
			unary <- err
		}()
		synctest.Wait()
		require.EqualValues(t, 4, server.Stats().ActiveCalls)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("grace is over"))
		defer cancel()
		err = server.Drain(ctx)
		require.EqualError(t, err, "interceptors: drain cancelled 4 calls: grace is over")
		synctest.Wait()
		for range 3 {
			cause, ok := errors.AsType[*interceptors.Error](<-causes)
			require.True(t, ok)
			require.Equal(t, interceptors.ReasonDraining, cause.Reason)
		}
		idle(t, nil, server)
		_, err = drain(stream)
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.Contains(t, err.Error(), "shutting down")
		_, err = putting.Recv()
		require.Equal(t, codes.Unavailable, status.Code(err))
		_, err = handling.Recv()
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.Equal(t, codes.Unavailable, status.Code(<-unary))
	})
}

// A call that still waits for its admission is ended by Drain too, and its handler never runs.
func TestDrainEndsTheWaitForAdmission(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 1}})
		called := false
		server := newServer(t, interceptors.ServerConfig{Throttler: gate})
		f := interceptorstest.Start(
			t,
			interceptorstest.Config{
				Server:  server,
				Service: &interceptorstest.Service{OnCall: func(context.Context) { called = true }},
			},
		)
		held, err := gate.Acquire(t.Context(), flowcontrol.Cost{Messages: 1})
		require.NoError(t, err)
		ends := make(chan error, 2)
		go func() {
			_, err := get(t.Context(), f.Client)
			ends <- err
		}()
		go func() {
			_, err := f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
			ends <- err
		}()
		synctest.Wait()
		require.EqualValues(t, 2, server.Stats().ActiveCalls)
		require.Empty(t, server.Stats().Classes, "not admitted, not counted")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorContains(t, server.Drain(ctx), "cancelled 2 calls")
		for range 2 {
			err := <-ends
			require.Equal(t, codes.Unavailable, status.Code(err))
			require.ErrorContains(t, err, "shutting down")
		}
		require.False(t, called)
		held.Release(flowcontrol.Success)
		idle(t, gate, server)
	})
}

type sender interface {
	Send(*flight.FlightData) error
}

// The two deadlocks of Flight: a client that sends and does not read. The
// server's watchdog frees the server. Its status waits behind the data that is
// not read, so a client that never reads needs its own, or its deadline.
func TestWatchdogEndsDeadlocks(t *testing.T) {
	messages := interceptorstest.Batches(t, 1, 1000)
	opens := map[string]func(context.Context, flight.Client) (sender, error){
		"exchange": func(ctx context.Context, c flight.Client) (sender, error) { return c.DoExchange(ctx) },
		"put":      func(ctx context.Context, c flight.Client) (sender, error) { return c.DoPut(ctx) },
	}
	for name, open := range opens {
		for _, side := range []string{"server", "client"} {
			t.Run(name+" by the "+side, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					scfg, ccfg := interceptors.ServerConfig{StallTimeout: -1}, interceptors.ClientConfig{StallTimeout: -1}
					if side == "server" {
						scfg.StallTimeout = time.Minute
					} else {
						ccfg.StallTimeout = time.Minute
					}
					server, client := newServer(t, scfg), newClient(t, ccfg)
					f := interceptorstest.Start(t, interceptorstest.Config{
						Server: server, Client: client, Service: &interceptorstest.Service{Ack: 1 << 10},
					})
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					stream, err := open(ctx, f.Client)
					require.NoError(t, err)
					stuck := make(chan error, 1)
					go func() {
						var err error
						for err == nil {
							err = stream.Send(messages[1])
						}
						stuck <- err
					}()
					time.Sleep(2 * time.Minute)
					interceptorstest.Idle(t, server)
					if side == "server" {
						interceptorstest.Rejected(t, server, interceptors.ReasonStalled, 1)
						cancel()
					} else {
						interceptorstest.Rejected(t, client, interceptors.ReasonStalled, 1)
					}
					require.Error(t, <-stuck)
					idle(t, nil, server, client)
				})
			})
		}
	}
}

// A slow reader of a DoGet is backpressure, not a deadlock.
func TestWatchdogLeavesSlowReadersAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(t, interceptors.ServerConfig{StallTimeout: time.Minute})
		f := interceptorstest.Start(
			t,
			interceptorstest.Config{
				Server:  server,
				Service: &interceptorstest.Service{Send: interceptorstest.Batches(t, 1, 10_000), Repeat: 50},
			},
		)
		stream, err := f.Client.DoGet(t.Context(), &flight.Ticket{})
		require.NoError(t, err)
		time.Sleep(time.Hour)
		n, err := drain(stream)
		require.NoError(t, err)
		require.Equal(t, 100, n)
		require.GreaterOrEqual(t, server.Stats().Class(interceptors.ClassGet).Blocked, time.Hour)
		idle(t, nil, server)
	})
}

// What is exempt is not counted, but its streams have no end of their own: one
// client that watches the health would hold GracefulStop for ever.
func TestDrainEndsExemptStreams(t *testing.T) {
	for name, cancelled := range map[string]int64{"all done": 0, "one cancelled": 1} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := newServer(t, interceptors.ServerConfig{LoadReports: interceptors.LoadReportsAll})
				f := interceptorstest.Start(t, interceptorstest.Config{
					Server: server, AsOptions: true, Service: &interceptorstest.Service{},
					Register: func(r grpc.ServiceRegistrar) {
						healthpb.RegisterHealthServer(r, health.NewServer())
						require.NoError(t, server.RegisterLoadService(r, 30*time.Second))
					},
				})
				conn, err := grpc.NewClient(
					"passthrough:///bufconn",
					grpc.WithTransportCredentials(insecure.NewCredentials()),
					grpc.WithContextDialer(
						func(ctx context.Context, _ string) (net.Conn, error) { return f.Listener.DialContext(ctx) },
					),
				)
				require.NoError(t, err)
				defer conn.Close()
				watch, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
				require.NoError(t, err)
				_, err = watch.Recv()
				require.NoError(t, err)
				load, err := conn.NewStream(
					t.Context(),
					&grpc.StreamDesc{ServerStreams: true},
					"/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics",
				)
				require.NoError(t, err)
				require.NoError(t, load.SendMsg(&emptypb.Empty{}))
				require.NoError(t, load.CloseSend())
				require.NoError(t, load.RecvMsg(&emptypb.Empty{}))

				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if cancelled > 0 {
					_, err := f.Client.DoPut(t.Context())
					require.NoError(t, err)
					synctest.Wait()
					require.Error(t, server.Drain(ctx))
				} else {
					require.NoError(t, server.Drain(ctx))
				}
				_, err = watch.Recv()
				require.Equal(t, codes.Unavailable, status.Code(err))
				require.ErrorContains(t, err, "shutting down")
				require.Equal(t, codes.Unavailable, status.Code(func() error { // a report may have come before
					for {
						if err := load.RecvMsg(&emptypb.Empty{}); err != nil {
							return err
						}
					}
				}()))
				f.Server.Shutdown()
				interceptorstest.Rejected(t, server, interceptors.ReasonDraining, cancelled)
			})
		})
	}
}

// A client that reads beside sending is in no deadlock: a server that takes its
// time for a message is backpressure.
func TestClientWatchdogLeavesReadersAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client := newClient(t, interceptors.ClientConfig{StallTimeout: time.Minute})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Client: client, Service: &interceptorstest.Service{Handle: 10 * time.Minute, Ack: 1},
		})
		stream, err := f.Client.DoPut(t.Context())
		require.NoError(t, err)
		acks := make(chan int, 1)
		go func() {
			n, err := drain(stream)
			require.NoError(t, err)
			acks <- n
		}()
		messages := interceptorstest.Batches(t, 1, 10_000)
		for range 10 {
			require.NoError(t, stream.Send(messages[1]))
		}
		require.NoError(t, stream.CloseSend())
		require.Equal(t, 10, <-acks)
		idle(t, nil, client)
	})
}
