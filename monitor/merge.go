package monitor

import (
	"cmp"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/withobsrvr/sluice/topology"
)

func (v *Service) key() string { return v.ID }
func (p *Pool) key() string    { return p.Endpoint }
func (e *Edge) key() string    { return e.id }

// merge folds o into v: sums for amounts, the largest for ratios and ages, the
// smallest for what is let through.
func (v *Service) merge(o *Service) {
	v.Local = v.Local || o.Local
	v.foreign = v.foreign || o.foreign
	v.Health = worse(v.Health, o.Health)
	v.Heartbeats = v.Heartbeats || o.Heartbeats
	v.HeartbeatAge = max(v.HeartbeatAge, o.HeartbeatAge)
	v.Load = max(v.Load, o.Load)
	v.InFlight += o.InFlight
	v.Limit += o.Limit
	v.Peak = max(v.Peak, o.Peak)
	v.InFlightRows += o.InFlightRows
	v.InFlightBytes += o.InFlightBytes
	v.Streams += o.Streams
	v.StreamLimit += o.StreamLimit
	v.QueueDepth += o.QueueDepth
	if o.HasFraction {
		if v.HasFraction {
			v.Fraction = min(v.Fraction, o.Fraction)
		} else {
			v.Fraction, v.HasFraction = o.Fraction, true
		}
	}
	v.Throughput = max(v.Throughput, o.Throughput)
	v.Latency = max(v.Latency, o.Latency)
	v.ErrorRatio = max(v.ErrorRatio, o.ErrorRatio)
	v.In.add(o.In)
	v.Out.add(o.Out)
	for _, c := range o.Errors {
		v.AddError(c.Code, c.Count)
	}
	v.Blocked += o.Blocked
	for _, a := range o.Admissions {
		v.AddAdmissions(a.Decision, a.Reason, a.Count)
	}
	for _, r := range o.Rejections {
		v.AddRejections(r.Class, r.Reason, r.Count)
	}
	for _, t := range o.TenantRejections {
		v.AddTenantRejections(t.Tenant, t.Count)
	}
	v.RejectedRatio = max(v.RejectedRatio, o.RejectedRatio)
	v.Wait.add(&o.Wait)
	for _, c := range o.Connections {
		v.AddConnections(Other, c.Count)
	}
}

// AddError adds n errors of a gRPC code. What is none counts as Unknown.
func (v *Service) AddError(code string, n uint64) {
	if !codeNames[code] {
		code = codes.Unknown.String()
	}
	for i := range v.Errors {
		if v.Errors[i].Code == code {
			v.Errors[i].Count += n
			return
		}
	}
	v.Errors = append(v.Errors, CodeCount{Code: code, Count: n})
}

// AddAdmissions adds n decisions of the gate. Both strings must come from
// closed sets.
func (v *Service) AddAdmissions(decision, reason string, n uint64) {
	for i := range v.Admissions {
		if a := &v.Admissions[i]; a.Decision == decision && a.Reason == reason {
			a.Count += n
			return
		}
	}
	v.Admissions = append(v.Admissions, AdmissionCount{
		Decision: labelValue(decision), Reason: labelValue(reason),
		Count: n,
	})
}

// AddRejections adds n rejections. Both strings must come from closed sets.
func (v *Service) AddRejections(class, reason string, n uint64) {
	for i := range v.Rejections {
		if r := &v.Rejections[i]; r.Class == class && r.Reason == reason {
			r.Count += n
			return
		}
	}
	v.Rejections = append(v.Rejections, RejectionCount{Class: labelValue(class), Reason: labelValue(reason), Count: n})
}

// maxTenants bounds the tenants with a series of their own, for each service.
const maxTenants = 100

// AddTenantRejections adds n rejections of a tenant's calls. Tenants beyond the
// first hundred of a service count as [Other].
func (v *Service) AddTenantRejections(tenant string, n uint64) {
	tenant = labelValue(tenant)
	if len(v.TenantRejections) >= maxTenants && !slices.ContainsFunc(v.TenantRejections,
		func(t TenantCount) bool { return t.Tenant == tenant }) {
		tenant = Other
	}
	for i := range v.TenantRejections {
		if v.TenantRejections[i].Tenant == tenant {
			v.TenantRejections[i].Count += n
			return
		}
	}
	v.TenantRejections = append(v.TenantRejections, TenantCount{tenant, n})
}

// AddConnections adds n working connections to endpoint.
func (v *Service) AddConnections(endpoint string, n int64) {
	endpoint = endpointName(endpoint)
	for i := range v.Connections {
		if v.Connections[i].Endpoint == endpoint {
			v.Connections[i].Count += n
			return
		}
	}
	v.Connections = append(v.Connections, EndpointCount{Endpoint: endpoint, Count: n})
}

// foldConnections keeps the endpoints of pools that have series, once there are
// more endpoints than pools may be, and as many others as there is room for.
func (v *Service) foldConnections(pools admitted, maximum int) {
	if len(v.Connections) <= maximum {
		return
	}
	slices.SortStableFunc(v.Connections, func(a, b EndpointCount) int {
		_, pooled := pools[a.Endpoint]
		_, other := pools[b.Endpoint]
		return cmp.Or(-cmp.Compare(oneIf(pooled), oneIf(other)), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	all := v.Connections
	v.Connections = slices.Clone(all[:maximum])
	for _, c := range all[maximum:] {
		v.AddConnections(Other, c.Count)
	}
}

var codeNames = func() map[string]bool {
	names := map[string]bool{}
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		names[code.String()] = true
	}
	return names
}()

func (t *Traffic) add(o Traffic) {
	t.Events += o.Events
	t.Bytes += o.Bytes
}

func (p *Pool) merge(o *Pool) {
	p.Total += o.Total
	p.Healthy += o.Healthy
	p.Idle += o.Idle
	p.Connecting += o.Connecting
	p.Wanted += o.Wanted
	p.Limit += o.Limit
	p.Streams += o.Streams
	p.Waiters += o.Waiters
	p.Opened += o.Opened
	p.Waits += o.Waits
	p.WaitTime += o.WaitTime
	p.Wait.add(&o.Wait)
	for _, r := range o.Acquires {
		p.AddAcquires(r.Reason, r.Count)
	}
	for _, r := range o.Closed {
		p.AddClosed(r.Reason, r.Count)
	}
}

// AddAcquires adds n acquires of one result, from a closed set.
func (p *Pool) AddAcquires(result string, n uint64) { p.Acquires = addReason(p.Acquires, result, n) }

// AddClosed adds n connections that were ended for one reason, from a closed set.
func (p *Pool) AddClosed(reason string, n uint64) { p.Closed = addReason(p.Closed, reason, n) }

func addReason(counts []ReasonCount, reason string, n uint64) []ReasonCount {
	for i := range counts {
		if counts[i].Reason == reason {
			counts[i].Count += n
			return counts
		}
	}
	return append(counts, ReasonCount{Reason: labelValue(reason), Count: n})
}

func (e *Edge) merge(o *Edge) {
	e.Connected = e.Connected || o.Connected
	e.Counted = e.Counted || o.Counted
	e.Events += o.Events
	e.Bytes += o.Bytes
	e.Blocked += o.Blocked
	e.BlockedRatio = max(e.BlockedRatio, o.BlockedRatio)
}

// sanitize makes every figure finite and not negative: sources may be users',
// and one NaN spoils a whole JSON document.
func (v *Service) sanitize() {
	v.Kind = known(v.Kind)
	v.Load = finite(v.Load)
	v.Fraction = ratio(v.Fraction)
	v.Throughput = finite(v.Throughput)
	v.ErrorRatio = ratio(v.ErrorRatio)
	v.RejectedRatio = ratio(v.RejectedRatio)
	v.Latency = max(0, v.Latency)
	v.HeartbeatAge = max(0, v.HeartbeatAge)
	if v.Heartbeats && v.HeartbeatAge > StaleHeartbeat && !v.judged {
		v.Health = topology.HealthDown // whatever it said last
	}
	v.Blocked = max(0, v.Blocked)
	if v.Version != "" {
		v.Version = labelValue(v.Version)
	}
}

func (p *Pipeline) sanitize() {
	for _, f := range []*float64{&p.Throughput, &p.Load, &p.WorstLoad, &p.AggregateLoad} {
		*f = finite(*f)
	}
	for _, f := range []*float64{&p.Fraction, &p.ActivateAt, &p.RecoverAt} {
		*f = ratio(*f)
	}
	p.Latency = max(0, p.Latency)
	p.ActiveTime = max(time.Duration(0), p.ActiveTime)
}

func (p *Pool) sanitize() {
	for _, n := range []*int64{&p.Total, &p.Healthy, &p.Idle, &p.Connecting, &p.Limit, &p.Wanted, &p.Streams, &p.Waiters} {
		*n = max(0, *n)
	}
	p.Wanted = max(p.Wanted, p.Total)
	if p.Waiters > 0 { // somebody waits for a connection
		p.Wanted = max(p.Wanted, 1)
	}
}

func finite(v float64) float64 {
	if math.IsNaN(v) || v < 0 {
		return 0
	}
	return min(v, math.MaxFloat64)
}

func ratio(v float64) float64 { return min(1, finite(v)) }
