package monitor

// The families of single services. With [LocalServices], a process exports the
// figures of the services that it runs; who hears heartbeats exports their age,
// the health and the info of all: a dead service cannot say that it is dead.

var serviceFamilies = []*Family{
	{
		Name: "flowctl_service_load_ratio", OTel: "flowctl.service.load",
		Unit: "1", Kind: Gauge, Labels: []string{"service_id", "service_type"},
		Help: "The largest of in flight / limit over messages, rows and bytes: 1 is full.",
		each: eachService(func(v *Service, emit func(Sample)) { emit(with(v.Load, v.ID, kindLabel(v.Kind))) }),
	},
	{
		Name: "flowctl_service_inflight", OTel: "flowctl.service.inflight",
		Unit: "{message}", Kind: UpDown, Labels: []string{"service_id"},
		Help: "Messages admitted and not yet finished.",
		each: eachService(func(v *Service, emit func(Sample)) { emit(with(float64(v.InFlight), v.ID)) }),
	},
	{
		Name: "flowctl_service_inflight_limit", OTel: "flowctl.service.inflight.limit",
		Unit: "{message}", Kind: UpDown, Labels: []string{"service_id"},
		Help: "How many messages may be in flight.",
		each: eachService(func(v *Service, emit func(Sample)) {
			if v.Limit > 0 {
				emit(with(float64(v.Limit), v.ID))
			}
		}),
	},
	{
		Name: "flowctl_service_inflight_peak", OTel: "flowctl.service.inflight.peak",
		Unit: "{message}", Kind: Gauge, Labels: []string{"service_id"},
		Help: "The most messages in flight in the monitor's last interval.",
		each: localService(func(v *Service, emit func(Sample)) { emit(with(float64(v.Peak), v.ID)) }),
	},
	{
		Name: "flowctl_service_inflight_rows", OTel: "flowctl.service.inflight.rows",
		Unit: "{row}", Kind: UpDown, Labels: []string{"service_id"},
		Help: "Rows of the messages in flight.",
		each: localService(func(v *Service, emit func(Sample)) { emit(with(float64(v.InFlightRows), v.ID)) }),
	},
	{
		Name: "flowctl_service_inflight_bytes", OTel: "flowctl.service.inflight.bytes",
		Unit: "By", Kind: UpDown, Labels: []string{"service_id"},
		Help: "Bytes of the messages in flight.",
		each: localService(func(v *Service, emit func(Sample)) { emit(with(float64(v.InFlightBytes), v.ID)) }),
	},
	{
		Name: "flowctl_service_streams", OTel: "flowctl.service.streams",
		Unit: "{stream}", Kind: UpDown, Labels: []string{"service_id"},
		Help: "RPCs that are open.",
		each: localService(func(v *Service, emit func(Sample)) { emit(with(float64(v.Streams), v.ID)) }),
	},
	{
		Name: "flowctl_service_streams_limit", OTel: "flowctl.service.streams.limit",
		Unit: "{stream}", Kind: UpDown, Labels: []string{"service_id"},
		Help: "How many RPCs may be open.",
		each: localService(func(v *Service, emit func(Sample)) {
			if v.StreamLimit > 0 {
				emit(with(float64(v.StreamLimit), v.ID))
			}
		}),
	},
	{
		Name: "flowctl_service_queue_depth", OTel: "flowctl.service.queue.depth",
		Unit: "{item}", Kind: UpDown, Labels: []string{"service_id"},
		Help: "What waits in the service: as it says itself, or else what waits before its gate.",
		each: eachService(func(v *Service, emit func(Sample)) { emit(with(float64(v.QueueDepth), v.ID)) }),
	},
	{
		Name: "flowctl_service_throughput", OTel: "flowctl.service.throughput", Kind: Gauge, Labels: []string{"service_id"},
		Help: "Events per second that the service handles, over the last five seconds.",
		each: eachService(func(v *Service, emit func(Sample)) { emit(with(v.Throughput, v.ID)) }),
	},
	{
		Name: "flowctl_service_latency_seconds", OTel: "flowctl.service.latency",
		Unit: "s", Kind: Gauge, Labels: []string{"service_id"},
		Help: "The service's own part of the way, from taking a unit of work to handing it on.",
		each: eachService(func(v *Service, emit func(Sample)) { emit(with(v.Latency.Seconds(), v.ID)) }),
	},
	{
		Name: "flowctl_service_throttle_rate", OTel: "flowctl.service.throttle.rate",
		Kind: Gauge, Labels: []string{"service_id"},
		Help: "The fraction that the service lets through: 1 is all of it.",
		each: eachService(func(v *Service, emit func(Sample)) {
			if v.HasFraction {
				emit(with(v.Fraction, v.ID))
			}
		}),
	},
	{
		Name: "flowctl_service_error_ratio", OTel: "flowctl.service.error",
		Unit: "1", Kind: Gauge, Labels: []string{"service_id"},
		Help: "The share of the units of work that failed.",
		each: eachService(func(v *Service, emit func(Sample)) { emit(with(v.ErrorRatio, v.ID)) }),
	},
	{
		Name: "flowctl_service_errors_total", OTel: "flowctl.service.errors",
		Unit: "{error}", Kind: Counter, Labels: []string{"service_id", "code"},
		Help: "RPCs that ended in an error, by gRPC code.",
		each: localService(func(v *Service, emit func(Sample)) {
			for _, c := range v.Errors {
				emit(with(float64(c.Count), v.ID, c.Code))
			}
		}),
	},
	{
		Name: "flowctl_service_rejected_ratio", OTel: "flowctl.service.rejected",
		Unit: "1", Kind: Gauge, Labels: []string{"service_id"},
		Help: "The share of what the service was asked for, calls and work at its gate, that it rejected.",
		each: localService(func(v *Service, emit func(Sample)) { emit(with(v.RejectedRatio, v.ID)) }),
	},
	{
		Name: "flowctl_service_rejections_total", OTel: "flowctl.service.rejections",
		Unit: "{rejection}", Kind: Counter, Labels: []string{"service_id", "class", "reason"},
		Help: "Calls and messages that the service rejected, by the class of the call and by reason.",
		each: localService(func(v *Service, emit func(Sample)) {
			for _, r := range v.Rejections {
				emit(with(float64(r.Count), v.ID, r.Class, r.Reason))
			}
		}),
	},
	{
		Name: "flowctl_tenant_rejections_total", OTel: "flowctl.tenant.rejections",
		Unit: "{rejection}", Kind: Counter, Labels: []string{"service_id", "tenant"},
		Help: "Calls of one tenant that the service rejected. Tenants beyond a hundred are other.",
		each: localService(func(v *Service, emit func(Sample)) {
			for _, t := range v.TenantRejections {
				emit(with(float64(t.Count), v.ID, t.Tenant))
			}
		}),
	},
	{
		Name: "flowctl_service_events_total", OTel: "flowctl.service.events",
		Unit: "{event}", Kind: Counter, Labels: []string{"service_id", "direction"},
		Help: "Events that came in and went out: rows, or messages where there are none. " +
			"What a service counts itself comes first: out of a sink is what it has made durable.",
		each: localService(func(v *Service, emit func(Sample)) {
			emit(with(float64(v.In.Events), v.ID, "in"))
			emit(with(float64(v.Out.Events), v.ID, "out"))
		}),
	},
	{
		Name: "flowctl_service_bytes_total", OTel: "flowctl.service.bytes",
		Unit: "By", Kind: Counter, Labels: []string{"service_id", "direction"},
		Help: "Bytes that came in and went out.",
		each: localService(func(v *Service, emit func(Sample)) {
			emit(with(float64(v.In.Bytes), v.ID, "in"))
			emit(with(float64(v.Out.Bytes), v.ID, "out"))
		}),
	},
	{
		Name: "flowctl_service_blocked_seconds_total", OTel: "flowctl.service.blocked",
		Unit: "s", Kind: Counter, Labels: []string{"service_id"},
		Help: "Seconds that senders were held back in all, with the waits that are still in progress.",
		each: localService(func(v *Service, emit func(Sample)) { emit(with(v.Blocked.Seconds(), v.ID)) }),
	},
	{
		Name: "flowctl_service_admissions_total", OTel: "flowctl.service.admissions",
		Unit: "{decision}", Kind: Counter, Labels: []string{"service_id", "decision", "reason"},
		Help: "Decisions of the service's gate.",
		each: localService(func(v *Service, emit func(Sample)) {
			for _, a := range v.Admissions {
				emit(with(float64(a.Count), v.ID, a.Decision, a.Reason))
			}
		}),
	},
	{
		Name: "flowctl_service_admission_wait_seconds", OTel: "flowctl.service.admission.wait.seconds",
		Unit: "s", Kind: Distribution, Labels: []string{"service_id"},
		Help: "How long the admitted waited at the service's gate.",
		each: localService(func(v *Service, emit func(Sample)) {
			if v.Wait.Known() {
				emit(Sample{Labels: [MaxLabels]string{v.ID}, Histogram: &v.Wait})
			}
		}),
	},
	{
		Name: "flowctl_service_connections", OTel: "flowctl.service.connections",
		Unit: "{connection}", Kind: UpDown, Labels: []string{"service_id", "endpoint"},
		Help: "Connections of the service that work, by endpoint.",
		each: localService(func(v *Service, emit func(Sample)) {
			for _, c := range v.Connections {
				emit(with(float64(c.Count), v.ID, c.Endpoint))
			}
		}),
	},
	{
		Name: "flowctl_service_heartbeat_age_seconds", OTel: "flowctl.service.heartbeat.age",
		Unit: "s", Kind: Gauge, Labels: []string{"service_id"},
		Help: "Time since the last heartbeat from the service.",
		each: func(s *Snapshot, emit func(Sample)) {
			for i := range s.Services {
				if v := &s.Services[i]; v.Heartbeats {
					emit(with(v.HeartbeatAge.Seconds(), v.ID))
				}
			}
		},
	},
	{
		Name: "flowctl_service_health", OTel: "flowctl.service.health", Kind: Gauge, Labels: []string{"service_id"},
		Help: "1 while the service is not known to be unhealthy, else 0.",
		each: everyService(func(v *Service, emit func(Sample)) { emit(with(oneIf(v.Working()), v.ID)) }),
	},
	{
		Name: "flowctl_service_info", OTel: "flowctl.service.info",
		Kind: Gauge, Labels: []string{"service_id", "service_type", "version"},
		Help: "Always 1: the service's place and version.",
		each: everyService(func(v *Service, emit func(Sample)) { emit(with(1, v.ID, kindLabel(v.Kind), v.Version)) }),
	},
}

type serviceSamples = func(*Service, func(Sample))

// everyService reads all services that are known.
func everyService(samples serviceSamples) func(*Snapshot, func(Sample)) {
	return func(s *Snapshot, emit func(Sample)) {
		for i := range s.Services {
			samples(&s.Services[i], emit)
		}
	}
}

// eachService reads those in the monitor's scope: figures that a service may
// also report to others.
func eachService(samples serviceSamples) func(*Snapshot, func(Sample)) {
	return func(s *Snapshot, emit func(Sample)) {
		for i := range s.Services {
			if v := &s.Services[i]; v.Local || v.foreign || s.scope == AllServices {
				samples(v, emit)
			}
		}
	}
}

// localService reads those that this process runs: figures that nobody else has.
func localService(samples serviceSamples) func(*Snapshot, func(Sample)) {
	return func(s *Snapshot, emit func(Sample)) {
		for i := range s.Services {
			if v := &s.Services[i]; v.Local {
				samples(v, emit)
			}
		}
	}
}
