package monitor

// The families of the whole pipeline. Only the process that decides exports
// them: with three components and a control plane, a sum over all would
// otherwise count the pipeline four times.

var pipelineFamilies = []*Family{
	{
		Name: "flowctl_pipeline_throughput_total", Kind: Gauge, Legacy: true,
		Help: "Deprecated alias of flowctl_pipeline_throughput_per_second. It is a gauge in spite of its " +
			"name: use neither rate() nor increase() on it.",
		each: ofPipeline(func(p *Pipeline) float64 { return p.Throughput }),
	},
	{
		Name: "flowctl_pipeline_throughput_per_second", OTel: "flowctl.pipeline.throughput", Unit: "{event}/s", Kind: Gauge,
		Help: "Events per second that leave the pipeline's sinks.",
		each: ofPipeline(func(p *Pipeline) float64 { return p.Throughput }),
	},
	{
		Name: "flowctl_pipeline_events_total", OTel: "flowctl.pipeline.events", Unit: "{event}", Kind: Counter,
		Help: "Events that left the pipeline's sinks, as the sinks count them, up to a heartbeat ago. " +
			"Sinks that have left are included.",
		each: ofPipeline(func(p *Pipeline) float64 { return float64(p.Events) }),
	},
	{
		Name: "flowctl_pipeline_latency_seconds", OTel: "flowctl.pipeline.latency", Unit: "s", Kind: Gauge,
		Help: "Time from entering a source to leaving a sink: measured on events where they carry a time, " +
			"else the largest sum of the services' own latencies along a path.",
		each: ofPipeline(func(p *Pipeline) float64 { return p.Latency.Seconds() }),
	},
	{
		Name: "flowctl_pipeline_load_ratio", OTel: "flowctl.pipeline.load", Unit: "1", Kind: Gauge,
		Help: "The load that drives backpressure: the number that is compared with the thresholds.",
		each: ofPipeline(func(p *Pipeline) float64 { return p.Load }),
	},
	{
		Name: "flowctl_pipeline_worst_load_ratio", OTel: "flowctl.pipeline.worst_load", Unit: "1", Kind: Gauge,
		Help: "The load of the most loaded service.",
		each: ofPipeline(func(p *Pipeline) float64 { return p.WorstLoad }),
	},
	{
		Name: "flowctl_pipeline_aggregate_load_ratio", OTel: "flowctl.pipeline.aggregate_load", Unit: "1", Kind: Gauge,
		Help: "In flight over all services, divided by the sum of their limits.",
		each: ofPipeline(func(p *Pipeline) float64 { return p.AggregateLoad }),
	},
	{
		Name: "flowctl_backpressure_active", OTel: "flowctl.backpressure.active", Kind: Gauge,
		Help: "1 while the pipeline is under backpressure, else 0.",
		each: ofPipeline(func(p *Pipeline) float64 { return oneIf(p.Active) }),
	},
	{
		Name: "flowctl_backpressure_transitions_total", OTel: "flowctl.backpressure.transitions",
		Unit: "{transition}", Kind: Counter, Labels: []string{"state"},
		Help: "How often backpressure began (state active) and ended (state inactive).",
		each: func(s *Snapshot, emit func(Sample)) {
			if p := s.Pipeline; p != nil {
				emit(with(float64(p.Activations), "active"))
				emit(with(float64(p.Recoveries), "inactive"))
			}
		},
	},
	{
		Name: "flowctl_backpressure_time_seconds_total", OTel: "flowctl.backpressure.time", Unit: "s", Kind: Counter,
		Help: "Seconds under backpressure in all. Its rate is the share of the time under backpressure.",
		each: ofPipeline(func(p *Pipeline) float64 { return p.ActiveTime.Seconds() }),
	},
	{
		Name: "flowctl_backpressure_threshold_ratio", OTel: "flowctl.backpressure.threshold",
		Unit: "1", Kind: Gauge, Labels: []string{"threshold"},
		Help: "The loads at which backpressure begins (threshold activate) and may end (threshold recover).",
		each: func(s *Snapshot, emit func(Sample)) {
			if p := s.Pipeline; p != nil {
				emit(with(p.ActivateAt, "activate"))
				emit(with(p.RecoverAt, "recover"))
			}
		},
	},
	{
		Name: "flowctl_throttle_rate", OTel: "flowctl.throttle.rate", Kind: Gauge,
		Help: "The fraction of the offered work that the pipeline lets through: 1 is all of it.",
		each: ofPipeline(func(p *Pipeline) float64 { return p.Fraction }),
	},
	{
		Name: "flowctl_signals_dropped_total", OTel: "flowctl.signals.dropped", Unit: "{signal}", Kind: Counter,
		Help: "Decisions that a slow subscriber did not see because a newer one replaced them. The newest is never lost.",
		each: func(s *Snapshot, emit func(Sample)) {
			if s.Pipeline != nil {
				emit(one(float64(s.SignalsDropped)))
			}
		},
	},
	{
		Name: "flowctl_reports_rejected_total", OTel: "flowctl.reports.rejected",
		Unit: "{report}", Kind: Counter, Labels: []string{"reason"},
		Help: "Load reports, signals and settings that the decider rejected.",
		each: func(s *Snapshot, emit func(Sample)) {
			for _, r := range s.ReportsRejected {
				emit(with(float64(r.Count), r.Reason))
			}
		},
	},
}

func ofPipeline(value func(*Pipeline) float64) func(*Snapshot, func(Sample)) {
	return func(s *Snapshot, emit func(Sample)) {
		if s.Pipeline != nil {
			emit(one(value(s.Pipeline)))
		}
	}
}
