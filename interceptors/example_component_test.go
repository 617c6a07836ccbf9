package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/health"
	"github.com/withobsrvr/sluice/monitor/prommonitor"
	"github.com/withobsrvr/sluice/topology"
)

// An enricher reads batches from its upstream, works on them, and serves what
// comes of it.
type enricher struct {
	flight.BaseFlightServer
	gate     *flowcontrol.Throttler // what is in flight in this stage, all of it
	governor *interceptors.Server   // the calls that it serves
	caller   *interceptors.Client   // the calls that it makes
	upstream *connpool.Pool
	server   flight.Server
}

func newEnricher(upstream string) (*enricher, error) {
	e := &enricher{}
	var err error
	e.gate, err = flowcontrol.New(flowcontrol.Config{
		Name:  "enricher",
		Limit: flowcontrol.Cost{Messages: 64, Bytes: 64 << 20},
		Queue: flowcontrol.QueueConfig{InOrder: true},
	})
	if err != nil {
		return nil, err
	}
	e.governor, err = interceptors.NewServer(interceptors.ServerConfig{MaxActiveStreams: 100})
	if err != nil {
		return nil, err
	}
	e.caller, err = interceptors.NewClient(interceptors.ClientConfig{})
	if err != nil {
		return nil, err
	}
	e.upstream, err = connpool.New(upstream, connpool.Config{
		Credentials: insecure.NewCredentials(),
		DialOptions: e.caller.DialOptions(),
	})
	if err != nil {
		return nil, err
	}
	e.server = flight.NewServerWithMiddleware([]flight.ServerMiddleware{flight.ServerMiddleware(e.governor.Middleware())})
	e.server.RegisterFlightService(e)
	return e, nil
}

// DoGet is the loop. A batch is in flight from when it is read until it is
// handed on, so a slow reader shows as load, and the stage reads no further
// ahead than its limit.
func (e *enricher) DoGet(ticket *flight.Ticket, out flight.FlightService_DoGetServer) error {
	in, err := flight.NewClientFromConn(e.upstream.Shared(), nil).DoGet(out.Context(), ticket)
	if err != nil {
		return err
	}
	for {
		batch, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := e.handle(out, batch); err != nil {
			return err
		}
	}
}

func (e *enricher) handle(out flight.FlightService_DoGetServer, batch *flight.FlightData) error {
	permit, err := e.gate.Acquire(out.Context(), interceptors.CostOf(batch))
	if err != nil {
		return err
	}
	outcome := flowcontrol.Ignored
	defer func() { permit.Release(outcome) }()
	if err := out.Send(batch); err != nil { // the work itself would stand before this line
		return err
	}
	outcome = flowcontrol.Success
	return nil
}

// follow joins the pipeline: it reports this stage's load, and slows this
// stage's gate when the control plane says so. It returns when ctx ends.
func (e *enricher) follow(ctx context.Context, controlPlane, endpoint string) error {
	member, err := agent.New(agent.Config{
		Endpoint: controlPlane,
		Component: controlplane.Component{
			ID: "enricher", Kind: topology.KindProcessor, Endpoint: endpoint,
			InputEventTypes: []string{"ledgers"}, OutputEventTypes: []string{"enriched"},
		},
		Report: func() backpressure.Report {
			s := e.gate.Stats()
			return backpressure.Report{
				InFlight: s.InFlight.Messages, MaxInFlight: s.Limit.Messages, Load: s.Load, QueueDepth: s.Waiting,
			}
		},
		Targets: []backpressure.FractionSetter{e.gate},
	})
	if err != nil {
		return err
	}
	return member.Run(ctx)
}

// watch serves the metrics, the health and the report of this stage.
func (e *enricher) watch() (http.Handler, error) {
	m, err := monitor.New(monitor.Config{})
	if err != nil {
		return nil, err
	}
	m.WatchService(monitor.ServiceInfo{ID: "enricher", Kind: topology.KindProcessor, Upstreams: []string{"source"}})
	m.WatchThrottler("enricher", e.gate)
	m.WatchServer("enricher", e.governor)
	m.WatchClient("enricher", "source", e.caller)
	m.WatchPool("enricher", e.upstream)
	metrics, err := prommonitor.NewHandler(m, prommonitor.HandlerConfig{})
	if err != nil {
		return nil, err
	}
	h, err := health.New(m, health.Config{ServiceID: "enricher"})
	if err != nil {
		return nil, err
	}
	return h.Handler(metrics), nil
}

// stop lets what runs finish, for a minute at most.
func (e *enricher) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := e.governor.Drain(ctx)
	e.server.Shutdown()
	return errors.Join(err, e.upstream.Close())
}

// A new component from its parts: docs/new-component.md goes through it.
func Example_component() {
	source, err := interceptors.NewServer(interceptors.ServerConfig{})
	if err != nil {
		log.Fatal(err)
	}
	upstream := flight.NewServerWithMiddleware([]flight.ServerMiddleware{flight.ServerMiddleware(source.Middleware())})
	upstream.RegisterFlightService(&counter{})
	if err := upstream.Init("127.0.0.1:0"); err != nil {
		log.Fatal(err)
	}
	go upstream.Serve()
	defer upstream.Shutdown()

	e, err := newEnricher(upstream.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	if err := e.server.Init("127.0.0.1:0"); err != nil {
		log.Fatal(err)
	}
	go e.server.Serve()
	if _, err := e.watch(); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	followed := make(chan error, 1)
	// Where there is no control plane it decides alone.
	go func() { followed <- e.follow(ctx, "127.0.0.1:1", e.server.Addr().String()) }()

	sink, err := connpool.New(e.server.Addr().String(), connpool.Config{Credentials: insecure.NewCredentials()})
	if err != nil {
		log.Fatal(err)
	}
	n, err := get(context.Background(), flight.NewClientFromConn(sink.Shared(), nil))
	fmt.Println(n, "batches,", err)
	_ = sink.Close()
	cancel()
	<-followed
	if err := e.stop(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(e.gate.Stats().Succeeded, "through the gate,", e.gate.InFlight().Messages, "in flight")
	// Output:
	// 10 batches, <nil>
	// 10 through the gate, 0 in flight
}
