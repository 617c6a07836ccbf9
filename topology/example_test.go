package topology_test

import (
	"context"
	"fmt"

	"github.com/withobsrvr/sluice/topology"
)

// A source and a sink register; the sink's pool sees that it dials the source.
func Example() {
	tracker := topology.NewTracker(topology.TrackerConfig{Name: "orders"})
	for _, node := range []topology.Node{
		{ID: "orders-source", Kind: topology.KindSource, Endpoint: "localhost:8815", OutputEventTypes: []string{"order"}},
		{ID: "orders-sink", Kind: topology.KindSink, InputEventTypes: []string{"order"}},
	} {
		if err := tracker.Register(node); err != nil {
			fmt.Println(err)
		}
	}
	graph := tracker.Topology()
	fmt.Println(graph.Edges[0].From, graph.Edges[0].To, graph.Edges[0].Origin)

	tracker.Observe(topology.Edge{To: "orders-sink", Endpoint: "dns:///localhost:8815", Blocked: 0.4})
	tracker.Report("orders-source", topology.Status{InFlight: 12, MaxInFlight: 64})
	tracker.Report("orders-sink", topology.Status{InFlight: 60, MaxInFlight: 64})
	graph = tracker.Topology()
	fmt.Println(graph.Edges[0].From, graph.Edges[0].To, graph.Edges[0].Origin)
	fmt.Println(graph.Bottleneck.Node)
	// Output:
	// orders-source orders-sink matched
	// orders-source orders-sink observed
	// orders-sink
}

func ExampleTracker_Subscribe() {
	tracker := topology.NewTracker(topology.TrackerConfig{})
	changes := tracker.Subscribe()
	defer changes.Close()
	tracker.Register(topology.Node{ID: "a"})
	tracker.Register(topology.Node{ID: "b"})

	graph, err := changes.Next(context.Background()) // the newest, not the first
	fmt.Println(len(graph.Nodes), err)
	// Output:
	// 2 <nil>
}
