package main

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/topology"
)

// A worker serves one call at a time in each of its slots.
type worker struct {
	slots chan struct{}
	next  grpc.ClientConnInterface // nil: the last stage

	received, started, worked, ended, active, peak atomic.Int64
}

// The messages are those of the health service, under a name of our own: the
// request says how long its slot is to be held.
type (
	request  = grpc_health_v1.HealthCheckRequest
	response = grpc_health_v1.HealthCheckResponse
)

const workMethod = "/sluice.bench.Worker/Work"

var workerDesc = grpc.ServiceDesc{
	ServiceName: "sluice.bench.Worker",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Work",
		Handler: func(
			srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor,
		) (any, error) {
			in := new(request)
			if err := decode(in); err != nil {
				return nil, err
			}
			work := func(ctx context.Context, req any) (any, error) { return srv.(*worker).work(ctx, req.(*request)) }
			return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: workMethod}, work)
		},
	}},
}

// count stands before every control.
func (w *worker) count(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	w.received.Add(1)
	defer w.ended.Add(1)
	return next(ctx, req)
}

func (w *worker) work(ctx context.Context, in *request) (*response, error) {
	w.started.Add(1)
	active := w.active.Add(1)
	defer w.active.Add(-1)
	for peak := w.peak.Load(); active > peak && !w.peak.CompareAndSwap(peak, active); {
		peak = w.peak.Load()
	}
	hold, err := time.ParseDuration(in.GetService())
	if err != nil {
		return nil, err
	}
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	<-time.After(hold)
	<-w.slots
	w.worked.Add(1)
	out := new(response)
	if w.next == nil {
		return out, nil
	}
	return out, w.next.Invoke(ctx, workMethod, in, out)
}

// runStage serves until standard input ends.
func runStage(r role) error {
	g, err := newGuard(r.Control, r.Slots)
	if err != nil {
		return err
	}
	w := &worker{slots: make(chan struct{}, r.Slots)}
	if r.Next != "" {
		conn, err := dial(r.Next)
		if err != nil {
			return err
		}
		defer conn.Close()
		w.next = conn
	}
	options := append([]grpc.ServerOption{grpc.WaitForHandlers(true), grpc.ChainUnaryInterceptor(w.count)}, g.options...)
	server := grpc.NewServer(options...)
	server.RegisterService(&workerDesc, w)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	entry := &follower{gate: g.gate, lowest: 1}
	if r.Report != "" && g.gate != nil {
		agent, err := newAgent(r, g, entry)
		if err != nil {
			return err
		}
		running.Go(func() { _ = agent.Run(ctx) })
	}
	running.Go(func() { _ = server.Serve(lis) })
	defer server.Stop()
	return answer(func() report {
		rep := report{
			Address: lis.Addr().String(), CPU: cpu(), Limit: g.limit(), Fraction: entry.fraction(), Peak: w.peak.Load(),
			Received: w.received.Load(), Started: w.started.Load(), Worked: w.worked.Load(), Ended: w.ended.Load(),
		}
		if g.gate != nil {
			stats := g.gate.Stats()
			rep.Gate = &stats
		}
		return rep
	}, server.Stop)
}

// A follower hands the fraction to the gate and remembers the lowest.
type follower struct {
	gate   *flowcontrol.Throttler
	mu     sync.Mutex
	lowest float64
}

func (f *follower) SetFraction(fraction float64) {
	f.gate.SetFraction(fraction)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lowest = min(f.lowest, fraction)
}

func (f *follower) fraction() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lowest
}

// newAgent reports the gate's load; at the entry it follows the decision.
func newAgent(r role, g guard, entry *follower) (*agent.Agent, error) {
	cfg := agent.Config{
		Endpoint:  r.Report,
		Component: controlplane.Component{ID: r.ID, Kind: topology.KindSource, MaxInFlight: g.limit(), Upstreams: []string{}},
		Report: func() backpressure.Report {
			return backpressure.Report{InFlight: g.gate.InFlight().Messages, MaxInFlight: g.limit()}
		},
	}
	if r.Entry {
		cfg.Targets = []backpressure.FractionSetter{entry}
	} else {
		cfg.Component.Kind, cfg.Component.Upstreams = topology.KindSink, []string{entryID}
	}
	return agent.New(cfg)
}

// runPlane is a control plane with its defaults, but for the thresholds.
func runPlane(r role) error {
	plane, err := server.New(server.Config{
		Decision: backpressure.Config{Activation: r.Activation, Recovery: r.Recovery},
	})
	if err != nil {
		return err
	}
	defer plane.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	services := grpc.NewServer(server.GRPCOptions()...)
	plane.Register(services)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { _ = services.Serve(lis) })
	defer services.Stop()
	return answer(func() report {
		return report{Address: lis.Addr().String(), CPU: cpu()}
	}, func() {})
}

func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
}
