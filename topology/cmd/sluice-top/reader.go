package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/internal/wire/sluicepb"
	"github.com/withobsrvr/sluice/topology"
)

// callTimeout bounds one look at the control plane.
const callTimeout = 5 * time.Second

// A reader reads the graph from a control plane. Sluice's own sends it whole; of
// a stock one it is put together from the components' registrations and metrics.
type reader struct {
	conn grpc.ClientConnInterface
	// Events counted at the last look, for the rates of components that report
	// only totals.
	events map[string]counted
	// The longest latency that a component says to have measured.
	measured time.Duration
}

type counted struct {
	total float64
	at    time.Time
}

func newReader(conn grpc.ClientConnInterface) *reader {
	return &reader{conn: conn, events: map[string]counted{}}
}

func (r *reader) read(ctx context.Context) (*topology.Graph, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	whole, err := sluicepb.NewCoordinationClient(r.conn).GetTopology(ctx, &sluicepb.GetTopologyRequest{})
	switch status.Code(err) {
	case codes.OK:
		graph := &topology.Graph{}
		if err := json.Unmarshal(whole.GetJson(), graph); err != nil {
			return nil, fmt.Errorf("its topology does not decode: %w", err)
		}
		if graph.Schema > topology.Schema {
			return nil, fmt.Errorf("its topology has schema %d, this program reads up to %d: update sluice-top", graph.Schema, topology.Schema)
		}
		return graph, nil
	case codes.Unimplemented:
		return r.readStock(ctx)
	default:
		return nil, err
	}
}

// readStock asks the newer flowctl service, and the older where that is all
// there is.
func (r *reader) readStock(ctx context.Context) (*topology.Graph, error) {
	now := time.Now()
	r.measured = 0
	graph := &topology.Graph{Schema: topology.Schema, Time: now}
	list, err := flowctlv1pb.Client{Conn: r.conn}.ListComponents(ctx, &flowctlv1pb.ListComponentsRequest{IncludeUnhealthy: true})
	switch status.Code(err) {
	case codes.OK:
		for _, c := range list.GetComponents() {
			graph.Nodes = append(graph.Nodes, r.fromV1(c, now))
		}
	case codes.Unimplemented:
		list, err := flowctlpb.Client{Conn: r.conn}.ListServices(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range list.GetServices() {
			graph.Nodes = append(graph.Nodes, r.fromFlowctl(s, now))
		}
	default:
		return nil, err
	}
	summarize(graph)
	graph = graph.Normalize()
	if r.measured > 0 {
		graph.Pipeline.Latency, graph.Pipeline.LatencyMeasured = r.measured, true
	} else {
		graph.Pipeline.Latency = longest(graph)
	}
	return graph, nil
}

func (r *reader) fromV1(c *flowctlv1pb.ComponentStatusResponse, now time.Time) topology.Node {
	info := c.GetComponent()
	metrics := make(map[string]float64, len(c.GetMetrics()))
	for key, text := range c.GetMetrics() {
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			metrics[key] = v
		}
	}
	node := topology.Node{
		ID:               info.GetId(),
		Name:             info.GetName(),
		Kind:             kinds[info.GetType()],
		Version:          info.GetVersion(),
		Endpoint:         info.GetEndpoint(),
		InputEventTypes:  info.GetInputEventTypes(),
		OutputEventTypes: info.GetOutputEventTypes(),
		Status:           r.status(info.GetId(), metrics, now),
	}
	node.Health = topology.Health(strings.ToLower(strings.TrimPrefix(c.GetStatus().String(), "HEALTH_STATUS_")))
	node.LastHeartbeat = c.GetLastHeartbeat().AsTime()
	return node
}

func (r *reader) fromFlowctl(s *flowctlpb.ServiceStatus, now time.Time) topology.Node {
	node := topology.Node{
		ID:     s.GetServiceId(),
		Name:   s.GetComponentId(),
		Kind:   topology.Kind(strings.TrimPrefix(s.GetServiceType().String(), "SERVICE_TYPE_")),
		Status: r.status(s.GetServiceId(), s.GetMetrics(), now),
	}
	node.Health = topology.HealthUnhealthy
	if s.GetIsHealthy() {
		node.Health = topology.HealthHealthy
	}
	node.LastHeartbeat = s.GetLastHeartbeat().AsTime()
	return node
}

var kinds = map[flowctlv1pb.ComponentType]topology.Kind{
	flowctlv1pb.ComponentType_COMPONENT_TYPE_UNSPECIFIED: topology.KindUnknown,
	flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE:      topology.KindSource,
	flowctlv1pb.ComponentType_COMPONENT_TYPE_PROCESSOR:   topology.KindProcessor,
	flowctlv1pb.ComponentType_COMPONENT_TYPE_CONSUMER:    topology.KindSink,
}

// status reads what the heartbeat's metrics say.
func (r *reader) status(id string, metrics map[string]float64, now time.Time) topology.Status {
	s := topology.Status{
		Load:        metrics["inflight_utilization"],
		InFlight:    int64(metrics["current_inflight"]),
		MaxInFlight: int64(metrics["max_inflight"]),
		QueueDepth:  int64(metrics["queue_depth"]),
		Fraction:    metrics["throttle_rate"],
		OutRate:     metrics["events_per_second"],
		Latency:     milliseconds(metrics["processing_latency_ms"]),
		Active:      metrics["backpressure_active"] > 0,
	}
	r.measured = max(r.measured, milliseconds(metrics["end_to_end_latency_ms"]))
	if total, ok := metrics["events_processed_total"]; ok {
		last, seen := r.events[id]
		if elapsed := now.Sub(last.at).Seconds(); seen && s.OutRate == 0 && elapsed > 0 && total >= last.total {
			s.OutRate = (total - last.total) / elapsed
		}
		r.events[id] = counted{total: total, at: now}
	}
	return s
}

// summarize fills in the pipeline's figures from the nodes', as the components
// decide by themselves under a stock control plane.
func summarize(graph *topology.Graph) {
	p := &graph.Pipeline
	p.Fraction = 1
	for i := range graph.Nodes {
		node := &graph.Nodes[i]
		load := node.Load
		if node.MaxInFlight > 0 {
			load = max(load, float64(node.InFlight)/float64(node.MaxInFlight))
		}
		p.Load = max(p.Load, load)
		if node.Fraction > 0 {
			p.Fraction = min(p.Fraction, node.Fraction)
		}
		p.Active = p.Active || node.Active
		if node.Kind == topology.KindSink {
			p.Throughput += node.OutRate
		}
	}
}

// milliseconds reads a duration that somebody else reports: 0 when it cannot be.
func milliseconds(ms float64) time.Duration {
	if !(ms > 0 && ms < float64(24*time.Hour/time.Millisecond)) {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}

// longest is the largest sum of the nodes' own latencies along a path. An edge
// that closes a cycle ends it.
func longest(graph *topology.Graph) (most time.Duration) {
	own, next := map[string]time.Duration{}, map[string][]string{}
	for i := range graph.Nodes {
		own[graph.Nodes[i].ID] = graph.Nodes[i].Latency
	}
	for i := range graph.Edges {
		next[graph.Edges[i].From] = append(next[graph.Edges[i].From], graph.Edges[i].To)
	}
	sums := map[string]time.Duration{} // from here on; 0 while it is looked at
	var from func(id string) time.Duration
	from = func(id string) time.Duration {
		if sum, seen := sums[id]; seen {
			return sum
		}
		sums[id] = 0
		after := time.Duration(0)
		for _, to := range next[id] {
			after = max(after, from(to))
		}
		sums[id] = own[id] + after
		return sums[id]
	}
	for i := range graph.Nodes { // in their order, so that a cycle gives one number
		most = max(most, from(graph.Nodes[i].ID))
	}
	return most
}
