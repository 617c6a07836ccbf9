package mixin

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/withobsrvr/sluice/monitor"
)

// Dashboards returns the Grafana dashboards by file name.
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

// Queries returns every query of every dashboard, in order, once.
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

// help is the description of a family, so that a panel says what its metric does.
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
		return query{"histogram_quantile(0.99, sum" + le + "(rate(" + metric + "_bucket" + selector + "[$__rate_interval])))", legend}
	case monitor.UpDown:
		return query{"sum" + group + "(" + metric + selector + ")", legend}
	default:
		return query{"max" + group + "(" + metric + selector + ")", legend}
	}
}

func overview() dashboard {
	load := colours("green", nil, "yellow", 0.6, "red", 0.8)
	return newDashboard("flowctl-overview", "Flow control / Overview", "The whole pipeline: what it achieves, whether it is held back, and which service is the cause.", nil, []view{
		{kind: number, title: "Throughput", description: help("flowctl_pipeline_throughput_per_second"), unit: "short", width: 6, queries: []query{show("flowctl_pipeline_throughput_per_second", "", "", "events/s")}},
		{kind: number, title: "Latency", description: help("flowctl_pipeline_latency_seconds"), unit: "s", width: 6, queries: []query{show("flowctl_pipeline_latency_seconds", "", "", "end to end")}, steps: colours("green", nil, "yellow", 5.0, "red", 10.0)},
		{kind: number, title: "Load", description: help("flowctl_pipeline_load_ratio"), unit: "percentunit", width: 6, queries: []query{show("flowctl_pipeline_load_ratio", "", "", "load")}, steps: load},
		{kind: number, title: "Backpressure", description: help("flowctl_backpressure_active"), unit: "none", width: 6, queries: []query{show("flowctl_backpressure_active", "", "", "state")}, mappings: words("inactive", "active")},
		{kind: series, title: "Throughput and events", description: "The throughput that is reported, and the rate of the events that were counted.", unit: "short", queries: []query{
			show("flowctl_pipeline_throughput_per_second", "", "", "throughput"), show("flowctl_pipeline_events_total", "", "", "counted"),
		}},
		{kind: series, title: "Load and thresholds", description: "The load that drives the decision, with the thresholds at which backpressure begins and may end.", unit: "percentunit", queries: []query{
			show("flowctl_pipeline_load_ratio", "", "", "driving"), show("flowctl_pipeline_aggregate_load_ratio", "", "", "aggregate"),
			show("flowctl_backpressure_threshold_ratio", "", "threshold", "{{threshold}}"),
		}},
		{kind: series, title: "Throttle rate", description: help("flowctl_throttle_rate"), unit: "percentunit", max: 1, queries: []query{show("flowctl_throttle_rate", "", "", "pipeline"), show("flowctl_service_throttle_rate", "", "service_id", "{{service_id}}")}},
		{kind: series, title: "Time under backpressure", description: "The share of the time under backpressure; it does not depend on when it was scraped.", unit: "percentunit", max: 1, queries: []query{show("flowctl_backpressure_time_seconds_total", "", "", "share")}},
		{kind: series, title: "Service load", description: help("flowctl_service_load_ratio"), unit: "percentunit", queries: []query{show("flowctl_service_load_ratio", "", "service_id", "{{service_id}}")}},
		{kind: timeline, title: "Service health", description: help("flowctl_service_health"), unit: "none", queries: []query{{"min by (service_id) (flowctl_service_health)", "{{service_id}}"}}, mappings: []any{map[string]any{"type": "value", "options": map[string]any{
			"0": map[string]any{"text": "unhealthy", "color": "red", "index": 0}, "1": map[string]any{"text": "working", "color": "green", "index": 1},
		}}}},
		{kind: series, title: "Backpressure begins and ends", description: "How often a minute backpressure began and ended.", unit: "short", queries: []query{{"sum by (state) (rate(flowctl_backpressure_transitions_total[$__rate_interval])) * 60", "{{state}}"}}},
		{kind: table, title: "Alerts", description: help("flowctl_alerts"), unit: "none", queries: []query{show("flowctl_alerts", "", "alertname, alertstate, severity", "{{alertname}}")}},
		{kind: series, title: "Rejected reports and dropped signals", description: "What the decider rejected, and decisions that a slow subscriber did not see.", unit: "short", queries: []query{
			show("flowctl_reports_rejected_total", "", "reason", "{{reason}}"), show("flowctl_signals_dropped_total", "", "", "signals dropped"),
		}},
		{kind: series, title: "Series dropped", description: help("flowctl_telemetry_series_dropped_total"), unit: "short", queries: []query{show("flowctl_telemetry_series_dropped_total", "", "", "dropped")}},
	})
}

func service() dashboard {
	selector := `{service_id=~"$service_id"}`
	one := func(title, metric, unit string) view {
		return view{kind: series, title: title, description: help(metric), unit: unit, queries: []query{show(metric, selector, "service_id", "{{service_id}}")}}
	}
	return newDashboard("flowctl-service", "Flow control / Service", "One service or several: load against its limit, what it does, what it rejects, and what waits.",
		[]variable{choice("service_id", "Service", "flowctl_service_info")}, []view{
			{kind: series, title: "Load", description: help("flowctl_service_load_ratio"), unit: "percentunit", queries: []query{
				show("flowctl_service_load_ratio", selector, "service_id", "{{service_id}}"), show("flowctl_backpressure_threshold_ratio", "", "threshold", "{{threshold}}"),
			}},
			{kind: series, title: "In flight and limit", description: help("flowctl_service_inflight"), unit: "short", queries: []query{
				show("flowctl_service_inflight", selector, "service_id", "{{service_id}}"), show("flowctl_service_inflight_limit", selector, "service_id", "{{service_id}} limit"),
				show("flowctl_service_inflight_peak", selector, "service_id", "{{service_id}} peak"),
			}},
			one("Throughput", "flowctl_service_throughput", "short"),
			{kind: series, title: "Events in and out", description: help("flowctl_service_events_total"), unit: "short", queries: []query{show("flowctl_service_events_total", selector, "service_id, direction", "{{service_id}} {{direction}}")}},
			{kind: series, title: "Bytes in and out", description: help("flowctl_service_bytes_total"), unit: "Bps", queries: []query{show("flowctl_service_bytes_total", selector, "service_id, direction", "{{service_id}} {{direction}}")}},
			{kind: series, title: "Bytes and rows in flight", description: help("flowctl_service_inflight_bytes"), unit: "short", queries: []query{
				show("flowctl_service_inflight_bytes", selector, "service_id", "{{service_id}} bytes"), show("flowctl_service_inflight_rows", selector, "service_id", "{{service_id}} rows"),
			}},
			one("Queue", "flowctl_service_queue_depth", "short"),
			one("Latency", "flowctl_service_latency_seconds", "s"),
			{kind: series, title: "Wait at the gate (99th percentile)", description: help("flowctl_service_admission_wait_seconds"), unit: "s", queries: []query{show("flowctl_service_admission_wait_seconds", selector, "service_id", "{{service_id}}")}},
			{kind: series, title: "Senders held back", description: help("flowctl_service_blocked_seconds_total"), unit: "percentunit", queries: []query{show("flowctl_service_blocked_seconds_total", selector, "service_id", "{{service_id}}")}},
			{kind: series, title: "Decisions of the gate", description: help("flowctl_service_admissions_total"), unit: "short", queries: []query{show("flowctl_service_admissions_total", selector, "service_id, decision, reason", "{{service_id}} {{decision}} {{reason}}")}},
			one("Error ratio", "flowctl_service_error_ratio", "percentunit"),
			one("Rejected share", "flowctl_service_rejected_ratio", "percentunit"),
			{kind: series, title: "Rejections by class and reason", description: help("flowctl_service_rejections_total"), unit: "short", queries: []query{show("flowctl_service_rejections_total", selector, "service_id, class, reason", "{{service_id}} {{class}} {{reason}}")}},
			{kind: series, title: "Rejections by tenant", description: help("flowctl_tenant_rejections_total"), unit: "short", queries: []query{show("flowctl_tenant_rejections_total", selector, "service_id, tenant", "{{service_id}} {{tenant}}")}},
			{kind: series, title: "Errors by code", description: help("flowctl_service_errors_total"), unit: "short", queries: []query{show("flowctl_service_errors_total", selector, "service_id, code", "{{service_id}} {{code}}")}},
			{kind: series, title: "Open streams and limit", description: help("flowctl_service_streams"), unit: "short", queries: []query{
				show("flowctl_service_streams", selector, "service_id", "{{service_id}}"), show("flowctl_service_streams_limit", selector, "service_id", "{{service_id}} limit"),
			}},
			one("Heartbeat age", "flowctl_service_heartbeat_age_seconds", "s"),
			{kind: table, title: "Versions", description: help("flowctl_service_info"), unit: "none", queries: []query{show("flowctl_service_info", selector, "service_id, service_type, version", "{{service_id}}")}},
		})
}

func pool() dashboard {
	selector := `{endpoint=~"$endpoint"}`
	return newDashboard("flowctl-pool", "Flow control / Connection pools", "Connection pools by endpoint: how many connections work, who waits, and what comes and goes.",
		[]variable{choice("endpoint", "Endpoint", "flowctl_pool_total_connections")}, []view{
			{kind: series, title: "Connections", description: help("flowctl_pool_total_connections"), unit: "short", queries: []query{
				show("flowctl_pool_total_connections", selector, "endpoint", "{{endpoint}} total"), show("flowctl_pool_healthy_connections", selector, "endpoint", "{{endpoint}} healthy"),
				show("flowctl_pool_idle_connections", selector, "endpoint", "{{endpoint}} idle"), show("flowctl_pool_connecting_connections", selector, "endpoint", "{{endpoint}} connecting"),
				show("flowctl_pool_connections_limit", selector, "endpoint", "{{endpoint}} limit"),
			}},
			{kind: series, title: "Share that works", description: "Healthy connections of those that are wanted: below one half the pool counts as unhealthy.", unit: "percentunit", max: 1, queries: []query{
				{"min by (endpoint) (flowctl_pool_healthy_connections" + selector + " / (flowctl_pool_wanted_connections" + selector + " > 0))", "{{endpoint}}"},
			}},
			{kind: series, title: "RPCs on the connections", description: help("flowctl_pool_streams"), unit: "short", queries: []query{show("flowctl_pool_streams", selector, "endpoint", "{{endpoint}}")}},
			{kind: series, title: "RPCs that wait", description: help("flowctl_pool_waiters"), unit: "short", queries: []query{show("flowctl_pool_waiters", selector, "endpoint", "{{endpoint}}")}},
			{kind: series, title: "Mean wait", description: "Time that a waiting RPC waited for a connection.", unit: "s", queries: []query{
				{"sum by (endpoint) (rate(flowctl_pool_wait_seconds_total" + selector + "[$__rate_interval])) / (sum by (endpoint) (rate(flowctl_pool_waits_total" + selector + "[$__rate_interval])) > 0)", "{{endpoint}}"},
			}},
			{kind: series, title: "Wait (99th percentile)", description: help("flowctl_pool_acquire_wait_seconds"), unit: "s", queries: []query{show("flowctl_pool_acquire_wait_seconds", selector, "endpoint", "{{endpoint}}")}},
			{kind: series, title: "Acquires", description: help("flowctl_pool_acquires_total"), unit: "short", queries: []query{show("flowctl_pool_acquires_total", selector, "endpoint, result", "{{endpoint}} {{result}}")}},
			{kind: series, title: "Opened and closed", description: "Connections made, and ended by reason.", unit: "short", queries: []query{
				show("flowctl_pool_connections_opened_total", selector, "endpoint", "{{endpoint}} opened"), show("flowctl_pool_connections_closed_total", selector, "endpoint, reason", "{{endpoint}} closed {{reason}}"),
			}},
			{kind: series, title: "Reconnections", description: help("flowctl_reconnection_events_total"), unit: "short", queries: []query{show("flowctl_reconnection_events_total", "", "service_id, reason", "{{service_id}} {{reason}}")}},
			{kind: series, title: "Connections by service", description: help("flowctl_service_connections"), unit: "short", queries: []query{show("flowctl_service_connections", selector, "service_id, endpoint", "{{service_id}} to {{endpoint}}")}},
			{kind: series, title: "Discovery (99th percentile)", description: help("flowctl_service_discovery_duration_seconds"), unit: "s", queries: []query{show("flowctl_service_discovery_duration_seconds", "", "", "discovery")}},
		})
}

func edges() dashboard {
	selector := `{source=~"$source",target=~"$target"}`
	by, legend := "source, target", "{{source}} to {{target}}"
	return newDashboard("flowctl-edges", "Flow control / Edges", "The connections of the pipeline's graph: what flows, and which target holds its source back.",
		[]variable{choice("source", "Source", "flowctl_edge_connected"), choice("target", "Target", "flowctl_edge_connected")}, []view{
			{kind: series, title: "Held back by the target", description: help("flowctl_edge_blocked_seconds_total"), unit: "percentunit", queries: []query{show("flowctl_edge_blocked_seconds_total", selector, by, legend)}},
			{kind: series, title: "Events", description: help("flowctl_edge_events_total"), unit: "short", queries: []query{show("flowctl_edge_events_total", selector, by, legend)}},
			{kind: series, title: "Bytes", description: help("flowctl_edge_bytes_total"), unit: "Bps", queries: []query{show("flowctl_edge_bytes_total", selector, by, legend)}},
			{kind: timeline, title: "Connected", description: help("flowctl_edge_connected"), unit: "none", queries: []query{show("flowctl_edge_connected", selector, by, legend)}, mappings: words("not connected", "connected")},
		})
}
