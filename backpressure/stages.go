package backpressure

import "time"

// A stage is what the figures of the whole need of a service.
type stage struct {
	id              string
	role            Role
	inFlight, limit int64
	throughput      float64
	latency         time.Duration
	upstreams       []string
}

func (s *ServiceState) stage() stage {
	return stage{s.ServiceID, s.Role, s.InFlight, s.MaxInFlight, s.Throughput, s.Latency, s.Upstreams}
}

// stage is the service as it was published last.
func (s *service) stage() stage {
	v, now := &s.view, stage{id: s.id}
	v.version.read(func() {
		now.role, now.inFlight, now.limit = Role(v.role.Load()), v.inFlight.Load(), v.maxInFlight.Load()
		now.throughput, now.latency = v.throughput.load(), time.Duration(v.latency.Load())
	})
	if upstreams := v.upstreams.Load(); upstreams != nil {
		now.upstreams = *upstreams
	}
	return now
}

// stages is the pipeline's graph, for its figures. Its services are meant by
// their numbers, and asked for again and again: a list of ten thousand is what
// an overview does without.
type stages struct {
	count int
	of    func(i int) stage
	up    [][]int // nil where nobody names an upstream that is known
	feeds []bool
	sinks bool
	last  Role // of those that there are, where the roles are the order
}

func newStages(count int, of func(i int) stage) *stages {
	g := &stages{count: count, of: of}
	named := 0
	for i := range count {
		s := of(i)
		named += len(s.upstreams)
		g.sinks = g.sinks || s.role == Sink
		g.last = max(g.last, s.role)
	}
	if named > 0 {
		g.connect(named)
	}
	return g
}

func (g *stages) connect(named int) {
	places := make(map[string]int, g.count)
	for i := range g.count {
		places[g.of(i).id] = i
	}
	up, feeds := make([][]int, g.count), make([]bool, g.count)
	edges := make([]int, 0, named)
	for i := range up {
		begin := len(edges)
		for _, id := range g.of(i).upstreams {
			if u, ok := places[id]; ok {
				edges = append(edges, u)
				feeds[u] = true
			}
		}
		up[i] = edges[begin:]
	}
	if len(edges) > 0 {
		g.up, g.feeds = up, feeds
	}
}

// fill is the sum of what is in flight where there is a limit, and of the limits.
func (g *stages) fill() (inFlight, limits int64) {
	for i := range g.count {
		if s := g.of(i); s.limit > 0 {
			inFlight += s.inFlight
			limits += s.limit
		}
	}
	return inFlight, limits
}

// isExit: the sinks, or where none is named whatever feeds nobody.
func (g *stages) isExit(i int, role Role) bool {
	switch {
	case g.sinks:
		return role == Sink
	case g.up != nil:
		return !g.feeds[i]
	default:
		return role == g.last || role == RoleUnknown
	}
}

// throughput is what leaves the pipeline.
func (g *stages) throughput() (sum float64) {
	for i := range g.count {
		if s := g.of(i); g.isExit(i, s.role) {
			sum += s.throughput
		}
	}
	return sum
}

// longest is the largest sum of latencies along a way through the graph. A ring
// counts each of its services once.
func (g *stages) longest() (longest time.Duration) {
	if g.up == nil {
		return g.byRole()
	}
	const open, done = 1, 2
	ways := make([]struct {
		state   byte
		latency time.Duration
	}, g.count)
	var until func(i int) time.Duration
	until = func(i int) time.Duration {
		way := &ways[i]
		if way.state != 0 {
			return way.latency // 0 while it is open
		}
		way.state = open
		var before time.Duration
		for _, u := range g.up[i] {
			before = max(before, until(u))
		}
		way.state, way.latency = done, before+g.of(i).latency
		return way.latency
	}
	for i := range g.count {
		longest = max(longest, until(i))
	}
	return longest
}

// byRole is the longest way where nobody names an upstream: the roles are the
// order, source, processor, sink. Who has none stands alone.
func (g *stages) byRole() time.Duration {
	var slowest [Sink + 1]time.Duration
	for i := range g.count {
		s := g.of(i)
		slowest[s.role] = max(slowest[s.role], s.latency)
	}
	return max(slowest[RoleUnknown], slowest[Source]+slowest[Processor]+slowest[Sink])
}
