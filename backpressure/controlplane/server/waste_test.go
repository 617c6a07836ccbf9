package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/backpressuretest"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/backpressure/internal/wire"
	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/topology"
)

const stageService = "test.Stage"

// grpcStage is a gRPC server that works 20 ms in one of its slots, and then
// calls the next stage. Its throttler is what its agent reports and throttles.
type grpcStage struct {
	gate  *flowcontrol.Throttler
	slots chan struct{}
	next  grpc.ClientConnInterface // nil: the last
	entry bool

	mu   sync.Mutex
	work int
}

func (s *grpcStage) do(ctx context.Context, in *emptypb.Empty) (*emptypb.Empty, error) {
	acquire := s.gate.Acquire // the stage before waits
	if s.entry {
		acquire = s.gate.TryAcquire
	}
	permit, err := acquire(ctx, flowcontrol.Cost{Messages: 1})
	if err != nil {
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	}
	defer permit.Release(flowcontrol.Success)
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	time.Sleep(20 * time.Millisecond)
	<-s.slots
	s.mu.Lock()
	s.work++
	s.mu.Unlock()
	if s.next == nil {
		return in, nil
	}
	return wire.Invoke[emptypb.Empty](ctx, s.next, stageService, "Do", in)
}

// serve starts the stage in memory and returns a connection to it.
func (s *grpcStage) serve(t *testing.T) grpc.ClientConnInterface {
	listener := bufconn.Listen(1 << 20)
	services := grpc.NewServer()
	services.RegisterService(&grpc.ServiceDesc{
		ServiceName: stageService, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{wire.Unary(stageService, "Do", (*grpcStage).do)},
	}, s)
	ended := make(chan struct{})
	go func() { defer close(ended); services.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///stage", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(); services.Stop(); <-ended })
	return conn
}

// TestNothingIsWastedUpstreamOverGRPC is the two-stage test with everything on
// the wire: the stages, the control plane, the agents. Time is the bubble's.
func TestNothingIsWastedUpstreamOverGRPC(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulation: run without -short")
	}
	for _, overload := range []float64{2, 4} {
		t.Run(fmt.Sprintf("%vx", overload), func(t *testing.T) { nothingIsWasted(t, overload) })
	}
}

func nothingIsWasted(t *testing.T, overload float64) {
	const (
		capacity = 400.0
		deadline = 200 * time.Millisecond
	)
	synctest.Test(t, func(t *testing.T) {
		plane := backpressuretest.NewControlPlane(t, server.Config{})
		stages := make([]*grpcStage, 2)
		for i, size := range []struct{ slots, limit int }{{16, 32}, {8, 16}} {
			gate, err := flowcontrol.New(flowcontrol.Config{
				Limit: flowcontrol.Cost{Messages: int64(size.limit)}, Seed: 1,
				Queue: flowcontrol.QueueConfig{InOrder: true},
			})
			require.NoError(t, err)
			stages[i] = &grpcStage{gate: gate, slots: make(chan struct{}, size.slots), entry: i == 0}
		}
		stages[0].next = stages[1].serve(t)
		entry := stages[0].serve(t)
		for i, s := range stages {
			c := controlplane.Component{ID: fmt.Sprint("stage", i), Kind: topology.KindSource}
			var targets []backpressure.FractionSetter
			if i == 0 {
				targets = append(targets, s.gate)
			} else {
				c.Kind, c.Upstreams = topology.KindSink, []string{"stage0"}
			}
			plane.Run(agent.Config{
				Component: c, Targets: targets,
				Report: func() backpressure.Report {
					return backpressure.Report{InFlight: s.gate.InFlight().Messages, MaxInFlight: s.gate.Limit().Messages}
				},
			})
		}
		time.Sleep(2 * time.Second)

		r := rand.New(rand.NewPCG(5, 6))
		var mu sync.Mutex
		var took []time.Duration
		var running sync.WaitGroup
		begin := time.Now()
		warm, end := begin.Add(4*time.Second), begin.Add(10*time.Second)
		before, offered := 0, 0
		for at := begin; at.Before(end); at = at.Add(time.Duration(r.ExpFloat64() / (capacity * overload) * 1e9)) {
			time.Sleep(time.Until(at))
			measured := at.After(warm)
			if measured {
				if offered++; offered == 1 {
					stages[0].mu.Lock()
					before = stages[0].work
					stages[0].mu.Unlock()
				}
			}
			running.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				defer cancel()
				if _, err := wire.Invoke[emptypb.Empty](ctx, entry, stageService, "Do", &emptypb.Empty{}); err == nil && measured {
					mu.Lock()
					defer mu.Unlock()
					took = append(took, time.Since(at))
				}
			})
		}
		running.Wait()
		slices.Sort(took)
		goodput := float64(len(took)) / min(float64(offered), capacity*end.Sub(warm).Seconds())
		p99 := took[len(took)*99/100]
		work := float64(stages[0].work-before) / float64(len(took))
		t.Logf(
			"goodput %.3f, p99 %v, work of the first stage for each good answer %.3f", goodput, p99.Round(time.Millisecond),
			work,
		)
		require.GreaterOrEqual(t, goodput, 0.96)
		require.LessOrEqual(t, p99, 90*time.Millisecond)
		require.LessOrEqual(t, work, 1.1)
	})
}
