package backpressure

import (
	"time"

	"github.com/withobsrvr/sluice/topology"
)

// A stage is what the figures of the whole need of a service.
type stage struct {
	id              string
	kind            topology.Kind
	inFlight, limit int64
	throughput      float64
	latency         time.Duration
	upstreams       []string
}

func stageOf(r *Report) stage {
	return stage{r.ServiceID, r.Kind, r.InFlight, r.MaxInFlight, r.Throughput, r.Latency, r.Upstreams}
}

// stages is the pipeline's graph, for its figures: throughput and latency of the whole.
// It is made for each snapshot and dropped, because decisions need none of it.
type stages struct {
	all   []stage
	up    [][]int // by place in all; nil where no stage names an upstream that is known
	feeds []bool
	last  topology.Kind // the furthest down of those that there are
}

// depth is the order of the kinds, for pipelines that name no upstreams.
func depth(kind topology.Kind) int {
	switch kind {
	case topology.KindSource:
		return 1
	case topology.KindProcessor:
		return 2
	case topology.KindSink:
		return 3
	default:
		return 0
	}
}

// newStages keeps all, and works out the edges where any upstream is named.
func newStages(all []stage) *stages {
	g := &stages{all: all}
	named := 0
	for i := range all {
		named += len(all[i].upstreams)
		if depth(all[i].kind) > depth(g.last) {
			g.last = all[i].kind
		}
	}
	if named > 0 {
		g.connect()
	}
	return g
}

// connect finds the places of the named upstreams. Names of services that are not
// known are no edges.
func (g *stages) connect() {
	places := make(map[string]int, len(g.all))
	for i := range g.all {
		places[g.all[i].id] = i
	}
	up, feeds, edges := make([][]int, len(g.all)), make([]bool, len(g.all)), 0
	for i := range g.all {
		for _, id := range g.all[i].upstreams {
			if u, ok := places[id]; ok {
				up[i] = append(up[i], u)
				feeds[u] = true
				edges++
			}
		}
	}
	if edges > 0 {
		g.up, g.feeds = up, feeds
	}
}

// fill is the sum of what is in flight where there is a limit, and of the limits.
func (g *stages) fill() (inFlight, limits int64) {
	for i := range g.all {
		if s := &g.all[i]; s.limit > 0 {
			inFlight += s.inFlight
			limits += s.limit
		}
	}
	return inFlight, limits
}

// isExit: the sinks, or where there are none the stages that feed no other.
func (g *stages) isExit(i int) bool {
	kind := g.all[i].kind
	switch {
	case g.last == topology.KindSink:
		return kind == topology.KindSink
	case g.up != nil:
		return !g.feeds[i]
	default:
		return kind == g.last || !known(kind)
	}
}

// throughput is what leaves the pipeline, in events per second. A sum over all stages
// would count an event once a stage.
func (g *stages) throughput() (sum float64) {
	for i := range g.all {
		if g.isExit(i) {
			sum += g.all[i].throughput
		}
	}
	return sum
}

// longest is the largest sum of latencies along a way through the graph. A ring
// counts each of its services once. It is an upper bound of what an event needs from
// end to end: stages that overlap in time count in full.
func (g *stages) longest() (longest time.Duration) {
	if g.up == nil {
		return g.byKind()
	}
	sums, seen := make([]time.Duration, len(g.all)), make([]bool, len(g.all))
	var until func(i int) time.Duration
	until = func(i int) time.Duration {
		if seen[i] {
			return sums[i] // 0 while it is being worked out: the ring closes here
		}
		seen[i] = true
		var before time.Duration
		for _, u := range g.up[i] {
			before = max(before, until(u))
		}
		sums[i] = before + g.all[i].latency
		return sums[i]
	}
	for i := range g.all {
		longest = max(longest, until(i))
	}
	return longest
}

// byKind is the longest way where no stage names an upstream: the kinds are the
// order, source, processor, sink. A stage of no kind stands alone.
func (g *stages) byKind() time.Duration {
	var slowest [4]time.Duration
	for i := range g.all {
		d := depth(g.all[i].kind)
		slowest[d] = max(slowest[d], g.all[i].latency)
	}
	return max(slowest[0], slowest[1]+slowest[2]+slowest[3])
}
