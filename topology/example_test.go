package topology_test

import (
	"context"
	"fmt"
	"net/http"
	"os"

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

// The live page, below a prefix of a server that has other pages too.
func ExampleHandler() {
	tracker := topology.NewTracker(topology.TrackerConfig{})
	page := topology.Handler(tracker, topology.HandlerConfig{Title: "orders"})
	defer page.Close()

	mux := http.NewServeMux()
	mux.Handle("/topology/", http.StripPrefix("/topology", page))
	// Output:
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

func ExampleGraph_WriteMermaid() {
	graph := &topology.Graph{
		Nodes: []topology.Node{
			{ID: "in", Kind: topology.KindSource, Status: topology.Status{Health: topology.HealthHealthy, InFlight: 8, MaxInFlight: 64}},
			{ID: "end", Kind: topology.KindSink, Upstreams: []string{"in"}, Status: topology.Status{Health: topology.HealthHealthy, InFlight: 62, MaxInFlight: 64}},
		},
	}
	if err := graph.WriteMermaid(os.Stdout); err != nil {
		fmt.Println(err)
	}
	// Output:
	// flowchart LR
	//   n0[/"end<br/>97 %, 62 of 64 in flight"/]:::hot
	//   n1(["in<br/>13 %, 8 of 64 in flight"]):::calm
	//   n1 -.->|"declared"| n0
	//   classDef calm fill:#e8f0fd,stroke:#2160c4,color:#171c26
	//   classDef hot fill:#fde8e8,stroke:#bd2222,color:#171c26
}
