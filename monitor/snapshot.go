package monitor

import (
	"slices"
	"time"

	"github.com/withobsrvr/sluice/topology"
)

// Other is the id that services, pools and edges beyond the monitor's bounds
// are folded into: sums for counts, the largest for ratios and gauges.
const Other = "other"

// A Snapshot is everything that the monitor knows at one moment. It is built
// once and never changed: the metrics, the report, the alerts and the health
// endpoints that look at the same moment see the same numbers.
type Snapshot struct {
	// Time is when it was built.
	Time time.Time
	// Pipeline is nil in a process that does not decide for the pipeline.
	Pipeline *Pipeline
	// Services, Pools and Edges are in order of their ids.
	Services []Service
	Pools    []Pool
	Edges    []Edge
	// Bottleneck is the service that holds the pipeline up, nil while none does.
	// It is the watched graph's own, see [Monitor.WatchTopology].
	Bottleneck *topology.Bottleneck
	// Discovery is the duration of discovery calls.
	Discovery Histogram
	// Discovers says that this process looks others up, so that Discovery is
	// exported even while it is empty.
	Discovers bool
	// Reconnections by service and reason; each service that is known to
	// reconnect has all reasons, at 0 if need be.
	Reconnections []ReconnectionCount
	// SignalsDropped counts decisions that a slow subscriber did not see,
	// because a newer one replaced them.
	SignalsDropped uint64
	// ReportsRejected counts load reports that the decider rejected, by reason.
	ReportsRejected []ReasonCount
	// Alerts are the counts of the in-process engine's alerts.
	Alerts []AlertCount
	// SeriesDropped counts services, pools and edges folded into [Other], once
	// in each collection.
	SeriesDropped uint64

	scope  Scope
	heldUp map[string]bool // by the bottleneck
}

// WithScope returns s with the metrics of another scope. They share the rest.
func (s *Snapshot) WithScope(scope Scope) *Snapshot {
	other := *s
	other.scope = scope
	return &other
}

// HeldUpBy returns the bottleneck that holds a service up, directly or through
// others, or "" where none does: advice about that service would send its
// readers to the wrong place.
func (s *Snapshot) HeldUpBy(service string) string {
	if !s.heldUp[service] {
		return ""
	}
	return s.Bottleneck.Node
}

// Pipeline is the decision and the figures of the pipeline as a whole.
type Pipeline struct {
	// Throughput is what leaves the sinks, in events per second.
	Throughput float64
	// Events is how many left them since this process began to count. They are
	// counted, by the sinks themselves; a sink that does not count adds nothing.
	Events uint64
	// Latency is the longest way from a source to a sink.
	Latency time.Duration
	// LatencyMeasured says that Latency was observed on events, here ([Monitor.ObserveLatency])
	// or by a sink that reports it, rather than summed up from the stages along the longest path.
	LatencyMeasured bool
	// Load is the load that drives the decision, WorstLoad that of the most
	// loaded service and AggregateLoad the sum in flight over the sum of limits.
	Load, WorstLoad, AggregateLoad float64
	// WorstService is the service of WorstLoad.
	WorstService string
	// Active says that backpressure is on, since Since.
	Active bool
	Since  time.Time
	// ActiveTime is how long it has been on in all.
	ActiveTime time.Duration
	// Activations and Recoveries count its changes.
	Activations, Recoveries uint64
	// Fraction is the share of the offered work that is let through, 0..1.
	Fraction float64
	// ActivateAt and RecoverAt are the thresholds in force.
	ActivateAt, RecoverAt float64
}

// StaleHeartbeat is the age of a last heartbeat beyond which a service counts as
// down, whatever it said before, unless a watched graph knows better.
const StaleHeartbeat = 30 * time.Second

// Service is one service at one moment. Zero fields say nothing: their series
// are left out where "nothing known" and 0 differ.
type Service struct {
	ID string
	// Kind is the service's place in the pipeline. Anything but topology's
	// constants counts as topology.KindUnknown.
	Kind    topology.Kind
	Version string
	// Local says that this process runs the service, so that its own figures
	// come from here first hand.
	Local bool
	// Health is the service's state; "" is not known, see [Service.Working].
	Health topology.Health
	// HeartbeatAge is the time since the service was last heard of. It is
	// exported where Heartbeats is set, by who receives them.
	HeartbeatAge time.Duration
	Heartbeats   bool

	// Load is the largest of in flight / limit.
	Load float64
	// InFlight and Limit are messages, Peak the most in flight since the last
	// collection of the interval. Limit 0: none is known, the series is left out.
	InFlight, Limit, Peak int64
	// InFlightRows and InFlightBytes are the weights of what is in flight.
	InFlightRows, InFlightBytes int64
	// Streams are the open RPCs, StreamLimit how many may be.
	Streams, StreamLimit int64
	// QueueDepth is what waits before the gate.
	QueueDepth int64
	// Fraction is the share that the service lets through, 0..1; HasFraction
	// says that it is known.
	Fraction    float64
	HasFraction bool
	// Throughput is in events per second.
	Throughput float64
	// Latency is the service's own part of the way.
	Latency time.Duration
	// ErrorRatio is the share of failed units, 0..1.
	ErrorRatio float64
	// RejectedRatio is the share of what was asked of the service, calls and
	// work at its gate, that it rejected, 0..1.
	RejectedRatio float64

	// In and Out count what came in and went out since the start.
	In, Out Traffic
	// Errors by gRPC code name.
	Errors []CodeCount
	// Blocked is how long senders were held back in all, with the waits that
	// are still in progress.
	Blocked time.Duration
	// Admissions are the gate's decisions.
	Admissions []AdmissionCount
	// Rejections are the calls and messages that the service rejected, by class
	// and reason, and TenantRejections those of calls by tenant.
	Rejections       []RejectionCount
	TenantRejections []TenantCount
	// Wait is how long the admitted waited at the gate.
	Wait Histogram
	// Connections are the service's connections by endpoint.
	Connections []EndpointCount
	// Upstreams are the services that feed this one.
	Upstreams []string

	finished, failed uint64        // RPCs, for the error ratio
	turnedAway       uint64        // calls and messages that were rejected
	decided, shed    uint64        // at the gates: all decisions, and the rejections
	waited, held     time.Duration // at the throttlers, and in the interceptors, which overlap
	reported         reported
	hasReport        bool
	foreign          bool // see Draft.Foreign
	judged           bool // by a graph, which knows the service's heartbeat interval
}

// Working reports whether the service is not known to be unhealthy or down. One
// that starts, is degraded, or of which nothing is known counts as working.
func (v *Service) Working() bool {
	return v.Health != topology.HealthUnhealthy && v.Health != topology.HealthDown
}

// healths are in order from the least known to the worst.
var healths = []topology.Health{
	"", topology.HealthUnknown, topology.HealthHealthy, topology.HealthStarting, topology.HealthStopping,
	topology.HealthDegraded, topology.HealthUnhealthy, topology.HealthDown,
}

// worse returns the worse of two healths. Anything but the constants is not known.
func worse(a, b topology.Health) topology.Health {
	return healths[max(0, slices.Index(healths, a), slices.Index(healths, b))]
}

// known makes a kind one of topology's constants.
func known(k topology.Kind) topology.Kind {
	switch k {
	case topology.KindSource, topology.KindProcessor, topology.KindSink, topology.KindControl:
		return k
	default:
		return topology.KindUnknown
	}
}

// reported is what a service says of itself to somebody else. It counts where
// nothing is known first hand.
type reported struct {
	load                   float64
	inFlight, limit, queue int64
	throughput             float64
	latency                time.Duration
	errors, fraction       float64
}

func (v *Service) takeReport() {
	if !v.hasReport {
		return
	}
	r := &v.reported
	if v.Limit == 0 && v.InFlight == 0 {
		v.Load, v.InFlight, v.Limit = max(v.Load, r.load), r.inFlight, r.limit
	}
	if v.QueueDepth == 0 {
		v.QueueDepth = r.queue
	}
	if v.Throughput == 0 {
		v.Throughput = r.throughput
	}
	if v.Latency == 0 {
		v.Latency = r.latency
	}
	if v.ErrorRatio == 0 {
		v.ErrorRatio = r.errors
	}
	if !v.HasFraction && r.fraction > 0 {
		v.Fraction, v.HasFraction = r.fraction, true
	}
}

// Traffic counts events and bytes.
type Traffic struct{ Events, Bytes uint64 }

// CodeCount counts errors of one gRPC code.
type CodeCount struct {
	Code  string
	Count uint64
}

// AdmissionCount counts the gate's decisions of one kind.
type AdmissionCount struct {
	Decision, Reason string
	Count            uint64
}

// RejectionCount counts rejections of one class of calls for one reason.
type RejectionCount struct {
	Class, Reason string
	Count         uint64
}

// TenantCount counts by tenant.
type TenantCount struct {
	Tenant string
	Count  uint64
}

// EndpointCount counts connections to one endpoint.
type EndpointCount struct {
	Endpoint string
	Count    int64
}

// ReconnectionCount counts reconnections of one service for one reason.
type ReconnectionCount struct {
	Service, Reason string
	Count           uint64
}

// ReasonCount counts by a reason of a closed set.
type ReasonCount struct {
	Reason string
	Count  uint64
}

// Pool is one connection pool at one moment.
type Pool struct {
	Endpoint string
	// Total, Healthy, Idle and Connecting are connections now, Limit how many
	// there may be.
	Total, Healthy, Idle, Connecting, Limit int64
	// Wanted is how many there should be: Total and, while every attempt to
	// connect fails, at least 1. A pool without a connection that wants none is
	// idle; one that wants some is down.
	Wanted int64
	// Streams are the RPCs that live on them, Waiters those that wait for room.
	Streams, Waiters int64
	// Acquires by result.
	Acquires []ReasonCount
	// Waits counts the RPCs that had to wait for room, WaitTime how long in all.
	Waits    uint64
	WaitTime time.Duration
	// Wait is how long an acquire took, where that is known.
	Wait Histogram
	// Opened counts connections made, Closed those ended, by reason.
	Opened uint64
	Closed []ReasonCount
}

// Edge is one connection of the pipeline's graph: events flow from Source to
// Target.
type Edge struct {
	Source, Target string
	// Connected says that the target reads from the source now.
	Connected bool
	// Counted says that this process is one end of the edge, and so knows the
	// counts that follow.
	Counted bool
	Events  uint64
	Bytes   uint64
	// Blocked is how long the target had the stream open and did not read from
	// it, what is in progress included.
	Blocked time.Duration
	// BlockedRatio is the share of the recent time that it was held back, 0..1.
	BlockedRatio float64

	id string
}

// AlertCount counts the alerts of one rule in one state.
type AlertCount struct {
	Name, State, Severity string
	Count                 int
}

// Service returns the service of that id, or nil.
func (s *Snapshot) Service(id string) *Service {
	for i := range s.Services {
		if s.Services[i].ID == id {
			return &s.Services[i]
		}
	}
	return nil
}
