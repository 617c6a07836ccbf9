package monitor

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/withobsrvr/sluice/topology"
)

// A Source is something watched. Collect adds what it knows now to the draft of
// a snapshot. It is called from one goroutine at a time, must not block, dial
// or call a remote service, and must keep neither d nor what it returns.
type Source interface{ Collect(d *Draft) }

// SourceFunc makes a Source of a function.
type SourceFunc func(d *Draft)

// Collect calls f.
func (f SourceFunc) Collect(d *Draft) { f(d) }

// Draft is a snapshot in the making. Several sources may know different things
// about one service: each gets the same one by its id and adds to it.
type Draft struct {
	now           time.Time
	pipeline      *Pipeline
	events        uint64        // that left the sinks of a watched graph
	measured      time.Duration // from end to end, by somebody who reported it
	services      map[string]*Service
	pools         map[string]*Pool
	edges         map[[2]string]*Edge
	discovery     Histogram
	discovers     bool
	reconnections map[string]*[reconnectCount]uint64
	slab          []Service // room for as many services as there were, used anew
	signals       uint64
	rejected      []ReasonCount
	watchesGraph  bool
	bottleneck    *topology.Bottleneck // of the watched graph
	alerts        []AlertCount
}

// begin makes d an empty draft. The room for services is kept: a snapshot takes
// copies, and with ten thousand of them it is five megabytes.
func (d *Draft) begin(now time.Time) {
	services, slab := d.services, d.slab
	if n := len(services); services == nil || n > cap(slab) || n < cap(slab)/2 {
		services, slab = make(map[string]*Service, n), make([]Service, 0, n)
	}
	clear(services)
	clear(slab)
	*d = Draft{
		now: now, services: services, slab: slab[:0], pools: map[string]*Pool{},
		edges: map[[2]string]*Edge{}, reconnections: map[string]*[reconnectCount]uint64{},
	}
}

// Time is the moment of the snapshot.
func (d *Draft) Time() time.Time { return d.now }

// Pipeline returns the pipeline's part. To ask for it says that this process
// decides for the pipeline.
func (d *Draft) Pipeline() *Pipeline {
	if d.pipeline == nil {
		d.pipeline = &Pipeline{Fraction: 1}
	}
	return d.pipeline
}

// Service returns the service of that id, new if nobody has named it yet. Ids
// are cut to 128 bytes of valid UTF-8; an empty one becomes "unknown".
func (d *Draft) Service(id string) *Service {
	id = labelValue(id)
	s := d.services[id]
	if s == nil {
		if len(d.slab) == cap(d.slab) { // the old one stays where pointers into it are
			d.slab = make([]Service, 0, 16)
		}
		d.slab = append(d.slab, Service{ID: id, Kind: topology.KindUnknown})
		s = &d.slab[len(d.slab)-1]
		d.services[id] = s
	}
	return s
}

// Pool returns the pool to endpoint, new if nobody has named it yet. A
// resolver's prefix is cut off, so that one endpoint is one pool.
func (d *Draft) Pool(endpoint string) *Pool {
	endpoint = endpointName(endpoint)
	p := d.pools[endpoint]
	if p == nil {
		p = &Pool{Endpoint: endpoint}
		d.pools[endpoint] = p
	}
	return p
}

// Edge returns the edge along which events flow from source to target.
func (d *Draft) Edge(source, target string) *Edge {
	key := [2]string{labelValue(source), labelValue(target)}
	e := d.edges[key]
	if e == nil {
		e = &Edge{Source: key[0], Target: key[1], id: key[0] + "\x00" + key[1]}
		d.edges[key] = e
	}
	return e
}

// Discovery adds the durations of discovery calls. Calling it says that this
// process looks others up.
func (d *Draft) Discovery(h Histogram) {
	d.discovers = true
	d.discovery.add(&h)
	if h.Exemplars != nil {
		d.discovery.Exemplars = h.Exemplars
	}
}

// Reconnections adds n reconnections of a service for one reason: closed,
// connection_reset, connection_timed_out, forgotten, goaway, health_check,
// refused, replaced or unreachable. Any other counts as [Other]. All of them
// exist from the first call on, at 0 if need be, so that an increase from nothing
// shows.
func (d *Draft) Reconnections(service, reason string, n uint64) {
	service = labelValue(service)
	counts := d.reconnections[service]
	if counts == nil {
		counts = new([reconnectCount]uint64)
		d.reconnections[service] = counts
	}
	i := slices.Index(reconnectReasons[:], reason)
	if i < 0 {
		i = slices.Index(reconnectReasons[:], Other)
	}
	counts[i] += n
}

// Foreign says that the service has no metrics endpoint of its own, as a component
// of another team that only sends heartbeats: what it reports is exported here,
// also with [LocalServices].
func (d *Draft) Foreign(id string) { d.Service(id).foreign = true }

// Alerts adds counts of an alert engine's alerts.
func (d *Draft) Alerts(counts ...AlertCount) { d.alerts = append(d.alerts, counts...) }

// SignalsDropped adds decisions that a slow subscriber did not see.
func (d *Draft) SignalsDropped(n uint64) { d.signals += n }

// ReportsRejected adds rejected reports of a closed set of reasons.
func (d *Draft) ReportsRejected(reason string, n uint64) {
	reason = labelValue(reason)
	for i := range d.rejected {
		if d.rejected[i].Reason == reason {
			d.rejected[i].Count += n
			return
		}
	}
	d.rejected = append(d.rejected, ReasonCount{reason, n})
}

const reconnectCount = 10

// reconnectReasons is the closed set of what ends a connection: the control
// plane's agent's own, the pools', and those of gRPC proposal A94 for others.
var reconnectReasons = [reconnectCount]string{
	"closed", "connection_reset", "connection_timed_out", "forgotten", "goaway", "health_check", Other, "refused",
	"replaced", "unreachable",
}

// maxLabel bounds a label's value: ids come from outside.
const maxLabel = 128

func labelValue(s string) string {
	if s == "" {
		return "unknown"
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if len(s) <= maxLabel {
		return s
	}
	end := maxLabel
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// endpointName takes the resolver's scheme and authority off a gRPC target.
func endpointName(target string) string {
	if scheme, rest, ok := strings.Cut(target, "://"); ok && !strings.Contains(scheme, ":") {
		if _, after, ok := strings.Cut(rest, "/"); ok {
			target = after
		} else {
			target = rest
		}
	} else if rest, ok := strings.CutPrefix(target, "passthrough:///"); ok {
		target = rest
	}
	return labelValue(target)
}

// limits remembers which ids have series of their own. The first to come keep
// them, so that a newcomer never moves another's series.
type limits struct{ services, pools, edges admitted }

type admitted map[string]struct{}

// fold keeps at most maximum of items, which are in order of their ids: those
// that had a place before, then the first new ones. The rest is merged into one
// item made by other.
func fold[T any](
	items []*T, id func(*T) string, places *admitted, maximum int, other func() *T, merge func(into, from *T),
) (kept []*T, dropped uint64) {
	if len(items) <= maximum {
		if *places == nil {
			*places = make(admitted, len(items))
		}
		clear(*places)
		for _, item := range items {
			(*places)[id(item)] = struct{}{}
		}
		return items, 0
	}
	rest := other()
	next := make(admitted, maximum)
	for _, item := range items {
		if _, ok := (*places)[id(item)]; ok && len(next) < maximum && id(item) != id(rest) {
			next[id(item)] = struct{}{}
		}
	}
	for _, item := range items {
		if len(next) == maximum {
			break
		}
		if id(item) != id(rest) { // somebody may be called like that
			next[id(item)] = struct{}{}
		}
	}
	for _, item := range items {
		if _, ok := next[id(item)]; ok {
			kept = append(kept, item)
			continue
		}
		merge(rest, item)
		dropped++
	}
	*places = next
	return append(kept, rest), dropped
}

// snapshot ends the draft: sorted, finite, within the bounds.
func (d *Draft) snapshot(cfg *Config, l *limits, dropped *uint64) *Snapshot {
	s := &Snapshot{
		Time: d.now, Pipeline: d.pipeline, Discovery: d.discovery, Discovers: d.discovers,
		SignalsDropped: d.signals, ReportsRejected: d.rejected, Alerts: d.alerts, scope: cfg.Scope,
	}
	slices.SortFunc(s.ReportsRejected, func(a, b ReasonCount) int { return cmp.Compare(a.Reason, b.Reason) })
	if s.Pipeline != nil {
		s.Pipeline.sanitize()
	}

	for _, v := range d.pools {
		v.sanitize()
	}
	pools, n := fold(sorted(d.pools, (*Pool).key), (*Pool).key, &l.pools, cfg.MaxPools,
		func() *Pool { return &Pool{Endpoint: Other} }, (*Pool).merge)
	*dropped += n
	s.Pools = make([]Pool, len(pools))
	for i, v := range pools {
		s.Pools[i] = *v
	}

	services, n := fold(sorted(d.services, (*Service).key), (*Service).key, &l.services, cfg.MaxServices,
		func() *Service { return &Service{ID: Other, Kind: topology.KindUnknown} }, (*Service).merge)
	*dropped += n
	s.Services = make([]Service, len(services))
	for i, v := range services {
		v.sanitize()
		v.foldConnections(l.pools, cfg.MaxPools)
		s.Services[i] = *v
	}

	edges, n := fold(sorted(d.edges, (*Edge).key), (*Edge).key, &l.edges, cfg.MaxEdges,
		func() *Edge { return &Edge{Source: Other, Target: Other, id: Other + "\x00" + Other} }, (*Edge).merge)
	*dropped += n
	s.Edges = make([]Edge, len(edges))
	for i, v := range edges {
		v.BlockedRatio = ratio(v.BlockedRatio)
		s.Edges[i] = *v
	}

	s.Reconnections = d.foldReconnections(cfg, l)
	s.SeriesDropped = *dropped
	s.Bottleneck = s.findBottleneck(d)
	if s.Bottleneck != nil {
		s.heldUp = make(map[string]bool, len(s.Bottleneck.HoldsUp))
		for _, id := range s.Bottleneck.HoldsUp {
			s.heldUp[id] = true
		}
	}
	return s
}

// foldReconnections gives only those a series of their own that have one as
// services too, once there are more than fit.
func (d *Draft) foldReconnections(cfg *Config, l *limits) (counts []ReconnectionCount) {
	sums := make(map[string]*[reconnectCount]uint64, len(d.reconnections))
	for service, byReason := range d.reconnections {
		if len(d.reconnections) > cfg.MaxServices {
			if _, ok := l.services[service]; !ok {
				service = Other
			}
		}
		if sum := sums[service]; sum != nil {
			for i, n := range byReason {
				sum[i] += n
			}
			continue
		}
		sums[service] = byReason
	}
	counts = make([]ReconnectionCount, 0, len(sums)*reconnectCount)
	for _, service := range slices.Sorted(maps.Keys(sums)) {
		for i, n := range sums[service] {
			counts = append(counts, ReconnectionCount{Service: service, Reason: reconnectReasons[i], Count: n})
		}
	}
	return counts
}

func sorted[K comparable, T any](items map[K]*T, id func(*T) string) []*T {
	list := make([]*T, 0, len(items))
	for _, item := range items {
		list = append(list, item)
	}
	slices.SortFunc(list, func(a, b *T) int { return cmp.Compare(id(a), id(b)) })
	return list
}
