package monitortest

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/topology"
)

// Script is a source that plays one step after another: each collection sees
// the step that Next has come to.
type Script struct {
	steps []func(*monitor.Draft)
	at    atomic.Int64
}

// NewScript returns a script at its first step.
func NewScript(steps ...func(*monitor.Draft)) *Script { return &Script{steps: steps} }

// Next moves to the next step and stays at the last one.
func (s *Script) Next() { s.at.Add(1) }

// Collect plays the present step.
func (s *Script) Collect(d *monitor.Draft) {
	if len(s.steps) > 0 {
		s.steps[min(int(s.at.Load()), len(s.steps)-1)](d)
	}
}

// Nothing is a step in which everything has gone.
func Nothing(*monitor.Draft) {}

// Pipeline returns a source that knows a chain of n services, the decision over
// them, a pool and an edge between each two, every field set. Its figures
// never change.
func Pipeline(n int) monitor.Source {
	ids, endpoints := make([]string, n), make([]string, n)
	for i := range n {
		ids[i], endpoints[i] = ID(i), ID(i)+":8815"
	}
	return monitor.SourceFunc(func(d *monitor.Draft) {
		p := d.Pipeline()
		p.Throughput, p.Events, p.Latency = 2500, 1e6, 120*time.Millisecond
		p.Load, p.WorstLoad, p.AggregateLoad = 0.9, 0.9, 0.5
		p.Active, p.Since, p.ActiveTime = true, d.Time().Add(-time.Minute), 90*time.Second
		p.Activations, p.Recoveries, p.Fraction = 3, 2, 0.6
		p.ActivateAt, p.RecoverAt = 0.8, 0.6
		p.WorstService = ids[n-1]
		d.SignalsDropped(4)
		d.ReportsRejected("bad_number", 5)
		for i := range n {
			v := d.Service(ids[i])
			v.Kind = kinds[min(1, i)]
			if i == n-1 && n > 1 {
				v.Kind = topology.KindSink
			}
			v.Local, v.Health, v.Version = true, topology.HealthHealthy, "v1.2.3"
			v.Heartbeats, v.HeartbeatAge = true, time.Duration(i)*time.Second
			v.Limit, v.Peak, v.InFlight = 100, int64(20+i), int64(10+i)
			v.Load = 0.5 * float64(i+1) / float64(n)
			v.InFlightRows, v.InFlightBytes = 1000, 1<<20
			v.Streams, v.StreamLimit, v.QueueDepth = 2, 10, int64(i)
			v.Fraction, v.HasFraction = 0.6, true
			v.Throughput, v.Latency, v.ErrorRatio = 2500, 40*time.Millisecond, 0.01
			v.In, v.Out = monitor.Traffic{Events: 1e6, Bytes: 1 << 30}, monitor.Traffic{Events: 1e6, Bytes: 1 << 30}
			v.AddError("Unavailable", 3)
			v.Blocked = 5 * time.Second
			v.AddAdmissions("admitted", "none", 1e6)
			v.AddAdmissions("rejected", "in_flight", 7)
			v.RejectedRatio = 0.01
			v.AddRejections("get", "streams", 7)
			v.AddTenantRejections("tenant-1", 7)
			v.Wait = monitor.Histogram{
				Bounds: monitor.DurationBounds(), Counts: []uint64{1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 1},
				Sum: 1.5,
			}
			if i == 0 {
				continue
			}
			v.Upstreams = ids[i-1 : i]
			v.AddConnections(endpoints[i-1], 2)
			d.Reconnections(ids[i], "unreachable", 1)
			pool := d.Pool(endpoints[i-1])
			pool.Total, pool.Healthy, pool.Idle, pool.Limit, pool.Streams = 3, 2, 1, 10, 4
			pool.Opened, pool.Waits, pool.WaitTime = 4, 9, time.Second
			pool.Wait = monitor.Histogram{
				Bounds: monitor.DurationBounds(), Counts: []uint64{0, 0, 0, 2, 0, 5, 0, 0, 0, 2, 0},
				Sum: 1,
			}
			pool.AddAcquires("ok", 100)
			pool.AddClosed("idle", 1)
			edge := d.Edge(ids[i-1], ids[i])
			edge.Connected, edge.Counted, edge.Events, edge.Bytes, edge.Blocked = true, true, 1e6, 1<<30, 7*time.Second
		}
	})
}

var kinds = [...]topology.Kind{topology.KindSource, topology.KindProcessor}

// ID is the id of a [Pipeline]'s i-th service.
func ID(i int) string { return fmt.Sprintf("service-%03d", i) }
