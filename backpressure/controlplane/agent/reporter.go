package agent

import (
	"context"
	"maps"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/internal/convert"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
	"github.com/withobsrvr/sluice/topology"
)

// A reporter sends on one stream what changed, and a small beat when nothing
// does. One goroutine uses it.
//
// Each figure travels once, and only when it is another: load and fraction in the
// report, the rest as metrics, connections as edges. An idle component sends some tens
// of bytes a heartbeat. The price is that the server keeps what was said; a new stream says
// everything again, so nothing depends on what an earlier one brought.
type reporter struct {
	agent  *Agent
	stream grpc.BidiStreamingClient[sluicepb.Up, sluicepb.Down]
	every  time.Duration // the least time between two looks at the load
	step   float64       // the change of load that is reported at once

	last     backpressure.Report
	lastLoad float64
	lastSent time.Time // any beat
	lastFull time.Time // a beat with metrics
	metrics  map[string]float64
	edges    []topology.Edge
	edgesAt  time.Time
}

func newReporter(a *Agent, stream grpc.BidiStreamingClient[sluicepb.Up, sluicepb.Down], w *sluicepb.Welcome) *reporter {
	r := &reporter{agent: a, stream: stream, every: controlplane.DefaultReportInterval, step: controlplane.DefaultLoadStep}
	if w != nil {
		r.every = max(time.Duration(w.GetReportMillis())*time.Millisecond, 10*time.Millisecond)
		if s := w.GetLoadStep(); s > 0 && s <= 1 {
			r.step = s
		}
	}
	return r
}

func (r *reporter) run(ctx context.Context) {
	ticker := time.NewTicker(r.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-r.agent.notified:
		}
		if err := r.send(time.Now(), false); err != nil {
			return // the receiving side learns why
		}
	}
}

// send sends a beat if one is due: at once when the load has moved by a step,
// once an interval when anything has changed or backpressure is active, otherwise
// once a heartbeat. first sends everything.
func (r *reporter) send(now time.Time, first bool) error {
	report := r.agent.report()
	load := report.Load
	if report.MaxInFlight > 0 {
		load = max(load, float64(report.InFlight)/float64(report.MaxInFlight))
	}
	// A fraction that the control plane has just decided is no news to it, and all
	// agents reporting it at once would slow the signal to those that still wait.
	known := r.last
	if r.agent.Mode() == backpressure.Coordinated {
		known.Fraction = report.Fraction
	}
	full := first || now.Sub(r.lastFull) >= r.agent.cfg.HeartbeatInterval
	moved := math.Abs(load-r.lastLoad) >= r.step
	// Under backpressure silence would leave the decision without an observation.
	news := differ(&report, &known) || r.agent.Signal().Active
	due := news && now.Sub(r.lastSent) >= r.agent.local.Config().Interval
	if !full && !moved && !due {
		return nil
	}
	beat := &sluicepb.Beat{Time: timestamppb.New(now)}
	if first || differ(&report, &r.last) {
		beat.Load = convert.LoadFromReport(&report)
		r.last, r.lastLoad = report, load
	}
	if full {
		beat.Metrics = r.changedMetrics()
		r.lastFull = now
	}
	for _, edge := range r.changedEdges(now, full) {
		beat.Edges = append(beat.Edges, convert.EdgeToWire(&edge))
	}
	r.lastSent = now
	return r.stream.Send(&sluicepb.Up{Message: &sluicepb.Up_Beat{Beat: beat}})
}

// changedMetrics returns the metrics that changed since they were last sent. One that
// disappears is not taken back: the server keeps its last value.
func (r *reporter) changedMetrics() map[string]float64 {
	if r.agent.cfg.Metrics == nil {
		return nil
	}
	now, changed := r.agent.cfg.Metrics(), map[string]float64{}
	for key, v := range now {
		if old, ok := r.metrics[key]; !ok || old != v {
			changed[key] = v
		}
	}
	r.metrics = maps.Clone(now) // the component may use its map again
	return changed
}

// changedEdges returns the edges when their shape changed, their figures moved
// and the last ones are an interval old, or their figures changed at all and a
// full beat is due.
func (r *reporter) changedEdges(at time.Time, full bool) []topology.Edge {
	if r.agent.cfg.Edges == nil {
		return nil
	}
	now := r.agent.cfg.Edges()
	same := len(now) == len(r.edges)
	equal, moved := same, false
	for i := 0; same && i < len(now); i++ {
		a, b := &now[i], &r.edges[i]
		same = a.From == b.From && a.Endpoint == b.Endpoint && a.State.Up() == b.State.Up() && a.Reconnects == b.Reconnects
		equal = equal && a.LastConnected.Equal(b.LastConnected) && a.Latency == b.Latency &&
			a.Throughput == b.Throughput && a.ByteRate == b.ByteRate && a.Blocked == b.Blocked
		moved = moved || math.Abs(a.Blocked-b.Blocked) >= 0.1 ||
			math.Abs(a.Throughput-b.Throughput) > 0.2*max(a.Throughput, b.Throughput)
	}
	moved = moved && at.Sub(r.edgesAt) >= r.agent.local.Config().Interval
	if same && (equal || !full && !moved) {
		return nil
	}
	r.edges, r.edgesAt = now, at
	return now
}

// differ says whether two reports differ in anything that is sent. Identity and place
// are said at registration.
func differ(a, b *backpressure.Report) bool {
	return a.InFlight != b.InFlight || a.MaxInFlight != b.MaxInFlight || a.Load != b.Load ||
		a.QueueDepth != b.QueueDepth || a.Throughput != b.Throughput || a.Latency != b.Latency ||
		a.ErrorRate != b.ErrorRate || a.Fraction != b.Fraction
}
