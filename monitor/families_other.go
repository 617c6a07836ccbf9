package monitor

// The families of connections, and of the monitor itself.

var connectionFamilies = []*Family{
	{
		Name: "flowctl_service_discovery_duration_seconds", OTel: "flowctl.service.discovery.duration",
		Unit: "s", Kind: Distribution, Observed: true,
		Help: "Duration of calls that look services up: the call alone.",
		each: func(s *Snapshot, emit func(Sample)) {
			if s.Discovers && s.Discovery.Known() {
				emit(Sample{Histogram: &s.Discovery})
			}
		},
	},
	{
		Name: "flowctl_reconnection_events_total", OTel: "flowctl.reconnection.events",
		Unit: "{event}", Kind: Counter, Labels: []string{"service_id", "reason"},
		Help: "Reconnections of a service, by what ended the connection before.",
		each: func(s *Snapshot, emit func(Sample)) {
			for _, r := range s.Reconnections {
				emit(with(float64(r.Count), r.Service, r.Reason))
			}
		},
	},
	poolGauge("flowctl_pool_total_connections", "flowctl.pool.total_connections", "{connection}",
		"Connections of the pool.",
		func(p *Pool) int64 { return p.Total }),
	poolGauge("flowctl_pool_healthy_connections", "flowctl.pool.healthy_connections", "{connection}",
		"Connections of the pool that can take RPCs.",
		func(p *Pool) int64 { return p.Healthy }),
	poolGauge("flowctl_pool_wanted_connections", "flowctl.pool.wanted_connections", "{connection}",
		"Connections that the pool has or, while none can be made, wants: 1 at least then.",
		func(p *Pool) int64 { return p.Wanted }),
	poolGauge("flowctl_pool_idle_connections", "flowctl.pool.idle_connections", "{connection}",
		"Connections of the pool that carry no RPC.",
		func(p *Pool) int64 { return p.Idle }),
	poolGauge("flowctl_pool_connecting_connections", "flowctl.pool.connecting_connections", "{connection}",
		"Connections of the pool that are being made.",
		func(p *Pool) int64 { return p.Connecting }),
	poolGauge("flowctl_pool_connections_limit", "flowctl.pool.connections.limit", "{connection}",
		"How many connections the pool may have.",
		func(p *Pool) int64 { return p.Limit }),
	poolGauge("flowctl_pool_streams", "flowctl.pool.streams", "{stream}", "RPCs that live on the pool's connections.",
		func(p *Pool) int64 { return p.Streams }),
	poolGauge("flowctl_pool_waiters", "flowctl.pool.waiters", "{request}", "RPCs that wait for room on a connection.",
		func(p *Pool) int64 { return p.Waiters }),
	{
		Name: "flowctl_pool_acquires_total", OTel: "flowctl.pool.acquires",
		Unit: "{request}", Kind: Counter, Labels: []string{"endpoint", "result"},
		Help: "RPCs that asked the pool for a connection.",
		each: eachPool(func(p *Pool, emit func(Sample)) {
			for _, r := range p.Acquires {
				emit(with(float64(r.Count), p.Endpoint, r.Reason))
			}
		}),
	},
	{
		Name: "flowctl_pool_waits_total", OTel: "flowctl.pool.waits",
		Unit: "{request}", Kind: Counter, Labels: []string{"endpoint"},
		Help: "RPCs that had to wait for room on a connection.",
		each: eachPool(func(p *Pool, emit func(Sample)) { emit(with(float64(p.Waits), p.Endpoint)) }),
	},
	{
		Name: "flowctl_pool_wait_seconds_total", OTel: "flowctl.pool.wait",
		Unit: "s", Kind: Counter, Labels: []string{"endpoint"},
		Help: "Seconds that RPCs waited for room on a connection, in all.",
		each: eachPool(func(p *Pool, emit func(Sample)) { emit(with(p.WaitTime.Seconds(), p.Endpoint)) }),
	},
	{
		Name: "flowctl_pool_acquire_wait_seconds", OTel: "flowctl.pool.acquire.wait.seconds",
		Unit: "s", Kind: Distribution, Labels: []string{"endpoint"},
		Help: "How long RPCs that had to wait for a connection waited.",
		each: eachPool(func(p *Pool, emit func(Sample)) {
			if p.Wait.Known() {
				emit(Sample{Labels: [MaxLabels]string{p.Endpoint}, Histogram: &p.Wait})
			}
		}),
	},
	{
		Name: "flowctl_pool_connections_opened_total", OTel: "flowctl.pool.connections.opened",
		Unit: "{connection}", Kind: Counter, Labels: []string{"endpoint"},
		Help: "Connections that the pool made.",
		each: eachPool(func(p *Pool, emit func(Sample)) { emit(with(float64(p.Opened), p.Endpoint)) }),
	},
	{
		Name: "flowctl_pool_connections_closed_total", OTel: "flowctl.pool.connections.closed",
		Unit: "{connection}", Kind: Counter, Labels: []string{"endpoint", "reason"},
		Help: "Connections that the pool ended, by reason.",
		each: eachPool(func(p *Pool, emit func(Sample)) {
			for _, r := range p.Closed {
				emit(with(float64(r.Count), p.Endpoint, r.Reason))
			}
		}),
	},
	{
		Name: "flowctl_edge_events_total", OTel: "flowctl.edge.events",
		Unit: "{event}", Kind: Counter, Labels: []string{"source", "target"},
		Help: "Events that flowed from one service to another.",
		each: countedEdge(func(e *Edge) float64 { return float64(e.Events) }),
	},
	{
		Name: "flowctl_edge_bytes_total", OTel: "flowctl.edge.bytes",
		Unit: "By", Kind: Counter, Labels: []string{"source", "target"},
		Help: "Bytes that flowed from one service to another.",
		each: countedEdge(func(e *Edge) float64 { return float64(e.Bytes) }),
	},
	{
		Name: "flowctl_edge_blocked_seconds_total", OTel: "flowctl.edge.blocked",
		Unit: "s", Kind: Counter, Labels: []string{"source", "target"},
		Help: "Seconds that the target had the stream open and did not read from it, what is in progress " +
			"included. Near 1 a second the target holds the source back; the cause is the target or beyond it.",
		each: countedEdge(func(e *Edge) float64 { return e.Blocked.Seconds() }),
	},
	{
		Name: "flowctl_edge_connected", OTel: "flowctl.edge.connected", Kind: Gauge, Labels: []string{"source", "target"},
		Help: "1 while the target reads from the source, else 0.",
		each: eachEdge(func(e *Edge) float64 { return oneIf(e.Connected) }),
	},
}

var ownFamilies = []*Family{
	{
		Name: "flowctl_alerts", OTel: "flowctl.alerts",
		Unit: "{alert}", Kind: UpDown, Labels: []string{"alertname", "alertstate", "severity"},
		Help: "Alerts of the in-process engine that are pending or firing.",
		each: func(s *Snapshot, emit func(Sample)) {
			for _, a := range s.Alerts {
				emit(with(float64(a.Count), a.Name, a.State, a.Severity))
			}
		},
	},
	{
		Name: "flowctl_telemetry_series_dropped_total", OTel: "flowctl.telemetry.series_dropped",
		Unit: "{series}", Kind: Counter,
		Help: "Services, pools and edges beyond the monitor's bounds, folded into \"other\", counted once " +
			"in each collection.",
		each: func(s *Snapshot, emit func(Sample)) { emit(one(float64(s.SeriesDropped))) },
	},
}

func poolGauge(name, otel, unit, help string, value func(*Pool) int64) *Family {
	return &Family{
		Name: name, OTel: otel, Unit: unit, Kind: UpDown, Labels: []string{"endpoint"}, Help: help,
		each: eachPool(func(p *Pool, emit func(Sample)) { emit(with(float64(value(p)), p.Endpoint)) }),
	}
}

func eachPool(samples func(*Pool, func(Sample))) func(*Snapshot, func(Sample)) {
	return func(s *Snapshot, emit func(Sample)) {
		for i := range s.Pools {
			samples(&s.Pools[i], emit)
		}
	}
}

func eachEdge(value func(*Edge) float64) func(*Snapshot, func(Sample)) {
	return func(s *Snapshot, emit func(Sample)) {
		for i := range s.Edges {
			e := &s.Edges[i]
			emit(with(value(e), e.Source, e.Target))
		}
	}
}

// countedEdge reads the edges that this process is an end of.
func countedEdge(value func(*Edge) float64) func(*Snapshot, func(Sample)) {
	return func(s *Snapshot, emit func(Sample)) {
		for i := range s.Edges {
			if e := &s.Edges[i]; e.Counted {
				emit(with(value(e), e.Source, e.Target))
			}
		}
	}
}
