// Command overload offers more requests to a gRPC server than it can serve and
// prints what came through, in real time over loopback TCP. The handler holds
// one of 8 slots for 20 ms, so the capacity is 400 a second; arrivals are
// Poisson and open-loop, each with a deadline of 200 ms.
//
//	GOWORK=off go -C internal/bench run ./overload -load 2 -for 8s
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
)

const (
	slots    = 8
	service  = 20 * time.Millisecond
	deadline = 200 * time.Millisecond
	capacity = 400.0
)

func main() {
	control := flag.String("control", "adaptive", "adaptive, queue (adaptive, with Acquire), fixed (16) or none")
	load := flag.Float64("load", 2, "offered load, in capacities")
	warm := flag.Duration("warm", 3*time.Second, "time before the measurement")
	d := flag.Duration("for", 5*time.Second, "time measured")
	seed := flag.Uint64("seed", 1, "of the arrivals")
	flag.Parse()
	result, err := run(*control, *load, *warm, *d, *seed)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(os.Stdout, result)
}

// A result is what the clients saw of the requests after the warm-up.
type result struct {
	control              string
	load, goodput        float64
	offered, good, tried int
	p99                  time.Duration
	limit                int64
}

func (r result) String() string {
	return fmt.Sprintf("%s at %gx: goodput %.3f, p99 of the admitted %v, %d offered, %d admitted, %d in time, limit %d",
		r.control, r.load, r.goodput, r.p99.Round(time.Millisecond), r.offered, r.tried, r.good, r.limit)
}

func run(control string, load float64, warm, d time.Duration, seed uint64) (result, error) {
	cfg := flowcontrol.Config{Adaptive: flowcontrol.AdaptiveConfig{Mode: flowcontrol.AdaptiveOn}}
	switch control {
	case "adaptive", "queue":
	case "fixed":
		cfg = flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 2 * slots}}
	case "none":
		cfg = flowcontrol.Config{Mode: flowcontrol.Off}
	default:
		return result{}, fmt.Errorf("no control %q", control)
	}
	gate, err := flowcontrol.New(cfg)
	if err != nil {
		return result{}, err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return result{}, err
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(guard(gate, control == "queue")))
	grpc_health_v1.RegisterHealthServer(server, &handler{slots: make(chan struct{}, slots)})
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(lis) })
	defer serving.Wait()
	defer server.Stop()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return result{}, err
	}
	defer conn.Close()
	r := offer(grpc_health_v1.NewHealthClient(conn), load, warm, d, seed)
	r.control, r.load, r.limit = control, load, gate.Limit().Messages
	return r, nil
}

// offer sends the requests and never waits for an answer to send the next.
func offer(client grpc_health_v1.HealthClient, load float64, warm, d time.Duration, seed uint64) (r result) {
	random := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	var took []time.Duration
	var clients sync.WaitGroup
	began := time.Now()
	for next := time.Duration(0); ; {
		next += time.Duration(random.ExpFloat64() / (load * capacity) * 1e9)
		if next >= warm+d {
			break
		}
		if wait := next - time.Since(began); wait > 0 {
			<-time.After(wait)
		}
		measured := next >= warm
		clients.Go(func() {
			due := began.Add(next)
			ctx, cancel := context.WithDeadline(context.Background(), due.Add(deadline))
			defer cancel()
			_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
			if !measured {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			r.offered++
			if status.Code(err) == codes.ResourceExhausted {
				return
			}
			r.tried++
			took = append(took, time.Since(due))
			if err == nil {
				r.good++
			}
		})
	}
	clients.Wait()
	r.goodput = float64(r.good) / min(float64(r.offered), capacity*d.Seconds())
	if len(took) > 0 {
		slices.Sort(took)
		r.p99 = took[len(took)*99/100]
	}
	return r
}

// guard admits a call before its handler runs and says how it ended.
func guard(gate *flowcontrol.Throttler, queue bool) grpc.UnaryServerInterceptor {
	admit := gate.TryAcquire
	if queue {
		admit = gate.Acquire
	}
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		permit, err := admit(ctx, flowcontrol.Cost{Messages: 1})
		if err != nil {
			return nil, status.Error(codes.ResourceExhausted, err.Error())
		}
		outcome := flowcontrol.Dropped // also when the handler panics
		defer func() { permit.Release(outcome) }()
		answer, err := next(ctx, req)
		if err == nil {
			outcome = flowcontrol.Success
		}
		return answer, err
	}
}

type handler struct {
	grpc_health_v1.UnimplementedHealthServer
	slots chan struct{}
}

// Check holds a slot for the service time.
func (h *handler) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	<-time.After(service)
	<-h.slots
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}
