package mixin

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/withobsrvr/sluice/monitor"
)

// Dashboards returns the Grafana dashboards by file name. Each asks for its data
// source when it is imported.
func Dashboards() map[string][]byte {
	files := map[string][]byte{}
	for _, d := range []dashboard{overview(), service(), pool(), edges()} {
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(d) // plain structs
		files[strings.TrimPrefix(d.UID, "flowctl-")+".json"] = b.Bytes()
	}
	return files
}

// Queries returns every query of every dashboard, sorted, once: for tests that ask a
// Prometheus whether it understands them. They hold Grafana's variables, such as
// $__rate_interval.
func Queries() []string {
	seen := map[string]bool{}
	for _, d := range []dashboard{overview(), service(), pool(), edges()} {
		for _, p := range d.Panels {
			for _, t := range p.Targets {
				seen[t.Expr] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// help is the description of a family, so that a panel says what its metric does. A
// name that is no family is a mistake in this file, and stops its tests.
func help(metric string) string { return monitor.FamilyOf(metric).Help }

// show draws families of one kind: a gauge as it is, a counter as its rate, a
// histogram as its quantiles. The table's kind decides, so that no panel takes
// the rate of a gauge.
func show(metric, selector, by, legend string) query {
	f := monitor.FamilyOf(metric)
	group := ""
	if by != "" {
		group = " by (" + by + ") "
	}
	switch f.Kind {
	case monitor.Counter:
		return query{"sum" + group + "(rate(" + metric + selector + "[$__rate_interval]))", legend}
	case monitor.Distribution:
		le := " by (le) "
		if by != "" {
			le = " by (le, " + by + ") "
		}
		rate := "rate(" + metric + "_bucket" + selector + "[$__rate_interval])"
		return query{"histogram_quantile(0.99, sum" + le + "(" + rate + "))", legend}
	case monitor.UpDown:
		return query{"sum" + group + "(" + metric + selector + ")", legend}
	default:
		return query{"max" + group + "(" + metric + selector + ")", legend}
	}
}

// each is show with a legend that names the labels of by.
func each(metric, selector, by string) query {
	return show(metric, selector, by, "{{"+strings.ReplaceAll(by, ", ", "}} {{")+"}}")
}

// of is a panel with the description of a metric.
func of(kind, title, metric, unit string, queries ...query) view {
	return view{kind: kind, title: title, description: help(metric), unit: unit, queries: queries}
}

// about is a panel with a description of its own.
func about(kind, title, description, unit string, queries ...query) view {
	return view{kind: kind, title: title, description: description, unit: unit, queries: queries}
}

// upTo1 ends the panel's axis at 1, for shares.
func upTo1(v view) view { v.max = 1; return v }

// quarter makes the panel a quarter of the row, with colours and names for its values.
func quarter(v view, steps []step, mappings []any) view {
	v.width, v.steps, v.mappings = 6, steps, mappings
	return v
}

// named gives names to the panel's values.
func named(v view, mappings []any) view { v.mappings = mappings; return v }

func overview() dashboard {
	const by = "service_id"
	health := []any{map[string]any{"type": "value", "options": map[string]any{
		"0": map[string]any{"text": "unhealthy", "color": "red", "index": 0},
		"1": map[string]any{"text": "working", "color": "green", "index": 1},
	}}}
	return newDashboard("flowctl-overview", "Flow control / Overview",
		"The whole pipeline: what it achieves, whether it is held back, and which service is the cause.", nil, []view{
			quarter(of(number, "Throughput", "flowctl_pipeline_throughput_per_second", "short",
				show("flowctl_pipeline_throughput_per_second", "", "", "events/s")), nil, nil),
			quarter(of(number, "Latency", "flowctl_pipeline_latency_seconds", "s",
				show("flowctl_pipeline_latency_seconds", "", "", "end to end")),
				colours("green", nil, "yellow", 5.0, "red", 10.0), nil),
			quarter(of(number, "Load", "flowctl_pipeline_load_ratio", "percentunit",
				show("flowctl_pipeline_load_ratio", "", "", "load")),
				colours("green", nil, "yellow", 0.6, "red", 0.8), nil),
			quarter(of(number, "Backpressure", "flowctl_backpressure_active", "none",
				show("flowctl_backpressure_active", "", "", "state")), nil, words("inactive", "active")),
			about(series, "Throughput and events",
				"The throughput that is reported, and the rate of the events that were counted.", "short",
				show("flowctl_pipeline_throughput_per_second", "", "", "throughput"),
				show("flowctl_pipeline_events_total", "", "", "counted")),
			about(series, "Load and thresholds",
				"The load that drives the decision, with the thresholds at which backpressure begins and may end.",
				"percentunit",
				show("flowctl_pipeline_load_ratio", "", "", "driving"),
				show("flowctl_pipeline_aggregate_load_ratio", "", "", "aggregate"),
				each("flowctl_backpressure_threshold_ratio", "", "threshold")),
			upTo1(of(series, "Throttle rate", "flowctl_throttle_rate", "percentunit",
				show("flowctl_throttle_rate", "", "", "pipeline"), each("flowctl_service_throttle_rate", "", by))),
			upTo1(about(series, "Time under backpressure",
				"The share of the time under backpressure; it does not depend on when it was scraped.", "percentunit",
				show("flowctl_backpressure_time_seconds_total", "", "", "share"))),
			of(series, "Service load", "flowctl_service_load_ratio", "percentunit",
				each("flowctl_service_load_ratio", "", by)),
			named(of(timeline, "Service health", "flowctl_service_health", "none",
				query{"min by (service_id) (flowctl_service_health)", "{{service_id}}"}), health),
			about(series, "Backpressure begins and ends", "How often a minute backpressure began and ended.", "short",
				query{"sum by (state) (rate(flowctl_backpressure_transitions_total[$__rate_interval])) * 60", "{{state}}"}),
			of(table, "Alerts", "flowctl_alerts", "none",
				show("flowctl_alerts", "", "alertname, alertstate, severity", "{{alertname}}")),
			about(series, "Rejected reports and dropped signals",
				"What the decider rejected, and decisions that a slow subscriber did not see.", "short",
				each("flowctl_reports_rejected_total", "", "reason"),
				show("flowctl_signals_dropped_total", "", "", "signals dropped")),
			of(series, "Series dropped", "flowctl_telemetry_series_dropped_total", "short",
				show("flowctl_telemetry_series_dropped_total", "", "", "dropped")),
		})
}

func service() dashboard {
	const selector, by = `{service_id=~"$service_id"}`, "service_id"
	one := func(title, metric, unit string) view {
		return of(series, title, metric, unit, each(metric, selector, by))
	}
	split := func(title, metric, unit, labels string) view {
		return of(series, title, metric, unit, each(metric, selector, by+", "+labels))
	}
	return newDashboard("flowctl-service", "Flow control / Service",
		"One service or several: load against its limit, what it does, what it rejects, and what waits.",
		[]variable{choice(by, "Service", "flowctl_service_info")}, []view{
			of(series, "Load", "flowctl_service_load_ratio", "percentunit",
				each("flowctl_service_load_ratio", selector, by),
				each("flowctl_backpressure_threshold_ratio", "", "threshold")),
			of(series, "In flight and limit", "flowctl_service_inflight", "short",
				each("flowctl_service_inflight", selector, by),
				show("flowctl_service_inflight_limit", selector, by, "{{service_id}} limit"),
				show("flowctl_service_inflight_peak", selector, by, "{{service_id}} peak")),
			one("Throughput", "flowctl_service_throughput", "short"),
			split("Events in and out", "flowctl_service_events_total", "short", "direction"),
			split("Bytes in and out", "flowctl_service_bytes_total", "Bps", "direction"),
			of(series, "Bytes and rows in flight", "flowctl_service_inflight_bytes", "short",
				show("flowctl_service_inflight_bytes", selector, by, "{{service_id}} bytes"),
				show("flowctl_service_inflight_rows", selector, by, "{{service_id}} rows")),
			one("Queue", "flowctl_service_queue_depth", "short"),
			one("Latency", "flowctl_service_latency_seconds", "s"),
			one("Wait at the gate (99th percentile)", "flowctl_service_admission_wait_seconds", "s"),
			one("Senders held back", "flowctl_service_blocked_seconds_total", "percentunit"),
			split("Decisions of the gate", "flowctl_service_admissions_total", "short", "decision, reason"),
			one("Error ratio", "flowctl_service_error_ratio", "percentunit"),
			one("Rejected share", "flowctl_service_rejected_ratio", "percentunit"),
			split("Rejections by class and reason", "flowctl_service_rejections_total", "short", "class, reason"),
			split("Rejections by tenant", "flowctl_tenant_rejections_total", "short", "tenant"),
			split("Errors by code", "flowctl_service_errors_total", "short", "code"),
			of(series, "Open streams and limit", "flowctl_service_streams", "short",
				each("flowctl_service_streams", selector, by),
				show("flowctl_service_streams_limit", selector, by, "{{service_id}} limit")),
			one("Heartbeat age", "flowctl_service_heartbeat_age_seconds", "s"),
			of(table, "Versions", "flowctl_service_info", "none",
				show("flowctl_service_info", selector, "service_id, service_type, version", "{{service_id}}")),
		})
}

func pool() dashboard {
	const selector, by = `{endpoint=~"$endpoint"}`, "endpoint"
	one := func(title, metric, unit string) view {
		return of(series, title, metric, unit, each(metric, selector, by))
	}
	rate := func(metric string) string {
		return "sum by (endpoint) (rate(" + metric + selector + "[$__rate_interval]))"
	}
	return newDashboard("flowctl-pool", "Flow control / Connection pools",
		"Connection pools by endpoint: how many connections work, who waits, and what comes and goes.",
		[]variable{choice(by, "Endpoint", "flowctl_pool_total_connections")}, []view{
			of(series, "Connections", "flowctl_pool_total_connections", "short",
				show("flowctl_pool_total_connections", selector, by, "{{endpoint}} total"),
				show("flowctl_pool_healthy_connections", selector, by, "{{endpoint}} healthy"),
				show("flowctl_pool_idle_connections", selector, by, "{{endpoint}} idle"),
				show("flowctl_pool_connecting_connections", selector, by, "{{endpoint}} connecting"),
				show("flowctl_pool_connections_limit", selector, by, "{{endpoint}} limit")),
			upTo1(about(series, "Share that works",
				"Healthy connections of those that are wanted: below one half the pool counts as unhealthy.",
				"percentunit",
				query{"min by (endpoint) (flowctl_pool_healthy_connections" + selector +
					" / (flowctl_pool_wanted_connections" + selector + " > 0))", "{{endpoint}}"})),
			one("RPCs on the connections", "flowctl_pool_streams", "short"),
			one("RPCs that wait", "flowctl_pool_waiters", "short"),
			about(series, "Mean wait", "Time that a waiting RPC waited for a connection.", "s",
				query{
					rate("flowctl_pool_wait_seconds_total") + " / (" + rate("flowctl_pool_waits_total") + " > 0)",
					"{{endpoint}}",
				}),
			one("Wait (99th percentile)", "flowctl_pool_acquire_wait_seconds", "s"),
			of(series, "Acquires", "flowctl_pool_acquires_total", "short",
				each("flowctl_pool_acquires_total", selector, "endpoint, result")),
			about(series, "Opened and closed", "Connections made, and ended by reason.", "short",
				show("flowctl_pool_connections_opened_total", selector, by, "{{endpoint}} opened"),
				show("flowctl_pool_connections_closed_total", selector, "endpoint, reason", "{{endpoint}} closed {{reason}}")),
			of(series, "Reconnections", "flowctl_reconnection_events_total", "short",
				each("flowctl_reconnection_events_total", "", "service_id, reason")),
			of(series, "Connections by service", "flowctl_service_connections", "short",
				show("flowctl_service_connections", selector, "service_id, endpoint", "{{service_id}} to {{endpoint}}")),
			of(series, "Discovery (99th percentile)", "flowctl_service_discovery_duration_seconds", "s",
				show("flowctl_service_discovery_duration_seconds", "", "", "discovery")),
		})
}

func edges() dashboard {
	one := func(kind, title, metric, unit string) view {
		return of(kind, title, metric, unit,
			show(metric, `{source=~"$source",target=~"$target"}`, "source, target", "{{source}} to {{target}}"))
	}
	return newDashboard("flowctl-edges", "Flow control / Edges",
		"The connections of the pipeline's graph: what flows, and which target holds its source back.",
		[]variable{
			choice("source", "Source", "flowctl_edge_connected"),
			choice("target", "Target", "flowctl_edge_connected"),
		}, []view{
			one(series, "Held back by the target", "flowctl_edge_blocked_seconds_total", "percentunit"),
			one(series, "Events", "flowctl_edge_events_total", "short"),
			one(series, "Bytes", "flowctl_edge_bytes_total", "Bps"),
			named(one(timeline, "Connected", "flowctl_edge_connected", "none"), words("not connected", "connected")),
		})
}
