package page_test

import (
	"fmt"
	"net/http"
	"os"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/page"
)

// The live page, below a prefix of a server that has other pages too.
func ExampleNew() {
	tracker := topology.NewTracker(topology.TrackerConfig{})
	live := page.New(tracker, page.Config{Title: "orders"})
	defer live.Close()

	mux := http.NewServeMux()
	mux.Handle("/topology/", http.StripPrefix("/topology", live))
	// Output:
}

func ExampleWriteMermaid() {
	graph := &topology.Graph{
		Nodes: []topology.Node{
			{ID: "in", Kind: topology.KindSource, Status: topology.Status{
				Health: topology.HealthHealthy, InFlight: 8,
				MaxInFlight: 64,
			}},
			{
				ID: "end", Kind: topology.KindSink, Upstreams: []string{"in"},
				Status: topology.Status{Health: topology.HealthHealthy, InFlight: 62, MaxInFlight: 64},
			},
		},
	}
	if err := page.WriteMermaid(os.Stdout, graph); err != nil {
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
