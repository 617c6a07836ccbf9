package monitor

import (
	"github.com/withobsrvr/sluice/topology"
)

// WatchTopology watches the pipeline's graph: its services with their health and
// age, its edges, also those between other processes, and its latency where the
// graph says that it was measured.
func (m *Monitor) WatchTopology(source topology.Source) (stop func()) {
	return m.Watch(SourceFunc(func(d *Draft) {
		g := source.Topology()
		bottleneck := g.Bottleneck
		if g.Schema == 0 { // put together by hand: nothing is derived yet
			bottleneck = g.Normalize().Bottleneck
		}
		d.watchesGraph = true
		if bottleneck != nil {
			d.bottleneck = bottleneck
		}
		d.events = max(d.events, g.Pipeline.Events)
		if g.Pipeline.LatencyMeasured {
			d.measured = max(d.measured, g.Pipeline.Latency)
		}
		for i := range g.Nodes {
			n := &g.Nodes[i]
			if n.Kind == topology.KindControl {
				continue
			}
			v := d.Service(n.ID)
			if k := known(n.Kind); k != topology.KindUnknown {
				v.Kind = k
			}
			if v.Version == "" {
				v.Version = n.Version
			}
			v.Health = worse(v.Health, n.Health)
			v.judged = n.Health != topology.HealthUnknown
			if !n.LastHeartbeat.IsZero() {
				v.Heartbeats, v.HeartbeatAge = true, max(0, d.Time().Sub(n.LastHeartbeat))
			}
			if v.Upstreams == nil {
				v.Upstreams = n.Upstreams
			}
			if !v.hasReport && reports(n) {
				v.hasReport = true
				v.reported = reported{
					load: n.Load, inFlight: n.InFlight, limit: n.MaxInFlight, queue: n.QueueDepth,
					throughput: max(n.InRate, n.OutRate), latency: n.Latency, errors: n.ErrorRatio, fraction: n.Fraction,
				}
			}
		}
		for i := range g.Edges {
			e := &g.Edges[i]
			if e.From == "" || e.To == "" {
				continue
			}
			edge := d.Edge(e.From, e.To)
			edge.Connected = edge.Connected || e.State.Up()
			edge.BlockedRatio = max(edge.BlockedRatio, e.Blocked)
		}
	}))
}

// reports says whether the node's status holds any figure.
func reports(n *topology.Node) bool {
	return n.InFlight|n.MaxInFlight|n.QueueDepth|int64(n.Latency) != 0 || n.InRate+n.OutRate+n.ErrorRatio > 0
}
