package interceptors_test

import (
	"context"
	"slices"
	"sync"
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

// A target in bytes a second is held within 5 %, in both directions, by server
// and by client, for one stream and for four, and nothing fails.
func TestTargetRateIsHeld(t *testing.T) {
	const rate = 8e6
	for _, test := range []struct {
		name      string
		rows      int // of eight bytes
		seconds   int64
		direction string
		client    bool // who paces
		streams   int64
	}{
		{"64 KiB get by the server", 8 << 10, 4, "get", false, 1},
		{"64 KiB get by the server, four streams", 8 << 10, 4, "get", false, 4},
		{"64 KiB put by the server", 8 << 10, 4, "put", false, 1},
		{"64 KiB put by the server, four streams", 8 << 10, 4, "put", false, 4},
		{"64 KiB get by the client", 8 << 10, 4, "get", true, 1},
		{"64 KiB put by the client", 8 << 10, 4, "put", true, 1},
		{"1 MiB get by the server", 128 << 10, 8, "get", false, 1},
		{"1 MiB put by the server", 128 << 10, 8, "put", false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				batch := interceptorstest.Batches(t, 1, test.rows)[1]
				size := int64(len(batch.DataHeader) + len(batch.DataBody))
				n := test.seconds * int64(rate) / size / test.streams
				gate := newGate(t, flowcontrol.Config{Rate: flowcontrol.Rates{Bytes: rate}})
				cfg := interceptorstest.Config{
					Service: &interceptorstest.Service{Send: []*flight.FlightData{batch}, Repeat: int(n)},
				}
				if test.client {
					cfg.Client = newClient(t, interceptors.ClientConfig{Throttler: gate, StallTimeout: -1})
				} else {
					cfg.Server = newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
				}
				f := interceptorstest.Start(t, cfg)
				began := time.Now()
				var all sync.WaitGroup
				for range test.streams {
					all.Go(func() {
						var err error
						if test.direction == "get" {
							_, err = get(t.Context(), f.Client)
						} else {
							_, err = put(t.Context(), f.Client, slices.Repeat([]*flight.FlightData{batch}, int(n)))
						}
						if err != nil {
							t.Errorf("a stream failed: %v", err)
						}
					})
				}
				all.Wait()
				got := float64(n*test.streams*size) / time.Since(began).Seconds()
				t.Logf("%.2f MB/s of %.2f", got/1e6, rate/1e6)
				require.InEpsilon(t, rate, got, 0.05)
			})
		})
	}
}

// The wait reaches the sender: while the server paces, the client's Send blocks.
func TestPacingIsCarriedToTheSender(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Rate: flowcontrol.Rates{Bytes: 1e6}})
		client := newClient(t, interceptors.ClientConfig{StallTimeout: -1})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server, Client: client})
		batches := interceptorstest.Batches(t, 100, 12_500) // 100 kB each, ten seconds in all
		_, err := put(t.Context(), f.Client, batches)
		require.NoError(t, err)
		s := client.Stats().Class(interceptors.ClassPut)
		require.Greater(t, s.Blocked, 8*time.Second)
		require.Less(t, s.Throttled, time.Millisecond, "it has no gate of its own")
		require.Greater(t, server.Stats().Class(interceptors.ClassPut).Throttled, 8*time.Second)
	})
}

// A wait that the gate bounds does not end the stream: only a bound on the stream does.
func TestGateMaxWaitDoesNotEndStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 1}, MaxWait: time.Second})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server, Service: &interceptorstest.Service{Handle: 10 * time.Second},
		})
		var all sync.WaitGroup
		streams := make([]flight.FlightService_DoPutClient, 3)
		for i := range streams {
			stream, err := f.Client.DoPut(t.Context())
			require.NoError(t, err)
			streams[i] = stream
		}
		time.Sleep(time.Second)
		for _, stream := range streams {
			all.Go(func() {
				for _, m := range interceptorstest.Batches(t, 3, 1)[1:] {
					if err := stream.Send(m); err != nil {
						t.Error(err)
					}
				}
				if err := stream.CloseSend(); err != nil {
					t.Error(err)
				}
				if _, err := drain(stream); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		interceptorstest.Rows(t, server, interceptors.ClassPut, 9, 0)
		idle(t, gate, server)
	})
}

// A stream with a deadline waits for its room as one without: the gate's queue
// drops calls that somebody may give up on, and a stream's messages are none.
func TestStreamsWithDeadlinesWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 1}})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		stream, err := f.Client.DoPut(ctx)
		require.NoError(t, err)
		synctest.Wait()
		held, err := gate.Acquire(t.Context(), flowcontrol.Cost{Messages: 1})
		require.NoError(t, err)
		require.NoError(t, stream.Send(interceptorstest.Batches(t, 1, 1)[1]))
		time.Sleep(9 * time.Minute)
		require.Zero(t, gate.Stats().Rejected.Total())
		held.Release(flowcontrol.Success)
		require.NoError(t, stream.CloseSend())
		_, err = drain(stream)
		require.NoError(t, err)
		interceptorstest.Rows(t, server, interceptors.ClassPut, 1, 0)
		idle(t, gate, server)
	})
}

// MaxMessageWait holds whatever the gate's own bound is, on each side and in each direction.
func TestMaxMessageWaitEndsTheStream(t *testing.T) {
	for name, maxWait := range map[string]time.Duration{
		"no MaxWait": 0, "a short one": time.Second, "a long one": time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 1}, MaxWait: maxWait})
				server := newServer(t, interceptors.ServerConfig{
					Throttler: gate, StallTimeout: -1, MaxMessageWait: 5 * time.Second,
				})
				f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
				stream, err := f.Client.DoPut(t.Context())
				require.NoError(t, err)
				time.Sleep(time.Second)
				held, err := gate.Acquire(t.Context(), flowcontrol.Cost{Messages: 1})
				require.NoError(t, err)
				began := time.Now()
				require.NoError(t, stream.Send(interceptorstest.Batches(t, 1, 1)[1]))
				_, err = stream.Recv()
				require.Equal(t, codes.Unavailable, status.Code(err))
				require.Equal(t, 5*time.Second, time.Since(began))
				interceptorstest.Rejected(t, server, interceptors.ReasonMessageWait, 1)
				held.Release(flowcontrol.Success)
				idle(t, gate, server)
			})
		})
	}
}

func TestMaxMessageWaitOfSentMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// The schema runs into a debt of two bursts, so the batch would wait for 30 s.
		gate := newGate(t, flowcontrol.Config{Rate: flowcontrol.Rates{Bytes: 1}, Burst: flowcontrol.Cost{Bytes: 10}})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1, MaxMessageWait: 5 * time.Second})
		client := newClient(t, interceptors.ClientConfig{Throttler: gate, StallTimeout: -1, MaxMessageWait: 5 * time.Second})
		f := interceptorstest.Start(
			t,
			interceptorstest.Config{
				Server:  server,
				Service: &interceptorstest.Service{Send: interceptorstest.Batches(t, 1, 1000)},
			},
		)
		began := time.Now()
		_, err := get(t.Context(), f.Client)
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.Equal(t, 5*time.Second, time.Since(began))
		f = interceptorstest.Start(t, interceptorstest.Config{Client: client, Service: &interceptorstest.Service{}})
		began = time.Now()
		_, err = put(t.Context(), f.Client, interceptorstest.Batches(t, 1, 1000))
		require.Error(t, err)
		require.Equal(t, 5*time.Second, time.Since(began))
		interceptorstest.Rejected(t, client, interceptors.ReasonMessageWait, 1)
		idle(t, nil, server, client)
	})
}

// A call that waits for its admission longer than the gate allows is rejected,
// and its handler never runs.
func TestOverloadIsRejectedAtTheStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 1}, MaxWait: time.Second})
		called := false
		server := newServer(t, interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
		f := interceptorstest.Start(
			t,
			interceptorstest.Config{
				Server:  server,
				Service: &interceptorstest.Service{OnCall: func(context.Context) { called = true }},
			},
		)
		held, err := gate.Acquire(t.Context(), flowcontrol.Cost{Messages: 1})
		require.NoError(t, err)
		_, err = get(t.Context(), f.Client)
		require.Equal(t, codes.Unavailable, status.Code(err))
		_, ok := interceptors.RetryAfter(err)
		require.True(t, ok)
		_, err = f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
		require.Equal(t, codes.Unavailable, status.Code(err))
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = get(ctx, f.Client)
		require.Contains(
			t,
			[]codes.Code{codes.DeadlineExceeded, codes.Unavailable},
			status.Code(err),
			"the gate may know before the deadline",
		)
		require.False(t, called)
		held.Release(flowcontrol.Success)
		idle(t, gate, server)
	})
}

// What can never fit is told so, and not to come back.
func TestOversizedIsNeverRetried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Bytes: 1000}, RejectOversized: true})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
		stream, err := f.Client.DoPut(t.Context())
		require.NoError(t, err)
		require.NoError(t, stream.Send(interceptorstest.Batches(t, 1, 1000)[1]))
		_, err = stream.Recv()
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.Equal(t, []string{"-1"}, stream.Trailer().Get("grpc-retry-pushback-ms"))
		interceptorstest.Rejected(t, server, "oversized", 1)
		idle(t, gate, server)
	})
}

// A prepared statement's parameters are no bulk load: they are counted, not paced.
func TestBindingIsNotPaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(t, flowcontrol.Config{Rate: flowcontrol.Rates{Bytes: 1}, Burst: flowcontrol.Cost{Bytes: 1}})
		server := newServer(t, interceptors.ServerConfig{Throttler: gate})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
		began := time.Now()
		d := &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: sqlCommand(t, "CommandPreparedStatementQuery")}
		_, err := put(t.Context(), f.Client, interceptorstest.Put(d, interceptorstest.Batches(t, 2, 1000)))
		require.NoError(t, err)
		require.Less(t, time.Since(began), time.Second)
		interceptorstest.Rows(t, server, interceptors.ClassPutBind, 2000, 0)
	})
}
