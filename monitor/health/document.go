package health

import (
	"net/http"
	"slices"
	"time"
)

// Document is the body of /health, after the Internet draft
// draft-inadarei-api-health-check-06. Keys of Checks are "subject:measurement", as
// there: pipeline:latency, service:load, pool:connections, ready:NAME.
type Document struct {
	Status      string             `json:"status"` // pass, warn or fail
	Version     string             `json:"version,omitempty"`
	ServiceID   string             `json:"serviceId"`
	Description string             `json:"description,omitempty"`
	Notes       []string           `json:"notes,omitempty"`
	Checks      map[string][]Check `json:"checks"`
}

// Check is one observation in a [Document]. ObservedUnit is bool (0 or 1), ratio, s or
// connection; Status is that of this observation alone.
type Check struct {
	ComponentID   string    `json:"componentId"`
	ComponentType string    `json:"componentType"`
	ObservedValue float64   `json:"observedValue"`
	ObservedUnit  string    `json:"observedUnit"`
	Status        string    `json:"status"`
	Time          time.Time `json:"time"`
}

const (
	pass = "pass"
	warn = "warn"
	fail = "fail"
)

// health serves the health document of the state now. It fails when a check of
// readiness fails; load, backpressure and the state of other services warn, so
// that a loaded process is not taken out of service.
func (h *Health) health(w http.ResponseWriter, r *http.Request) {
	doc := h.document()
	for _, c := range h.ask(r.Context(), func(string) bool { return true }) {
		check := Check{
			ComponentID: c.name, ComponentType: "component", ObservedValue: 1, ObservedUnit: "bool", Status: pass,
			Time: time.Now(),
		}
		if c.err != nil {
			check.ObservedValue, check.Status, doc.Status = 0, fail, fail
		}
		doc.Checks["ready:"+c.name] = []Check{check}
	}
	code := http.StatusOK
	if doc.Status == fail {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, r, "application/health+json", code, doc)
}

// document is everything but the checks of readiness, which need the request's
// context. Snapshot and report are taken once, so that no two checks disagree.
func (h *Health) document() Document {
	s := h.monitor.Snapshot()
	r := h.report(s)
	doc := Document{
		Status: pass, Version: h.cfg.Version, ServiceID: h.cfg.ServiceID, Description: h.cfg.Description,
		Notes: []string{r.Summary}, Checks: map[string][]Check{},
	}
	add := func(key, id, kind string, value float64, unit string, bad bool) {
		c := Check{ComponentID: id, ComponentType: kind, ObservedValue: value, ObservedUnit: unit, Status: pass, Time: s.Time}
		if bad {
			c.Status, doc.Status = warn, warn
		}
		doc.Checks[key] = append(doc.Checks[key], c)
	}
	if p := s.Pipeline; p != nil {
		add("pipeline:backpressure", "pipeline", "system", oneIf(p.Active), "bool", p.Active)
		add("pipeline:latency", "pipeline", "system", p.Latency.Seconds(), "s", p.Latency > h.cfg.Thresholds.Latency)
	}
	for i := range s.Services {
		v := &s.Services[i]
		add("service:load", v.ID, "component", v.Load, "ratio", v.Load > h.cfg.Thresholds.Load)
		add("service:health", v.ID, "component", oneIf(v.Working()), "bool", statusOf(v) >= Degraded)
	}
	for i := range s.Pools {
		p := &s.Pools[i]
		add("pool:connections", p.Endpoint, "component", float64(p.Healthy), "connection",
			below(p, h.cfg.Thresholds.PoolHealth))
	}
	if doc.Status == pass && r.Status >= Degraded { // an alert fires, or work fails
		doc.Status = warn
	}
	doc.Notes = slices.DeleteFunc(doc.Notes, func(note string) bool { return note == "" })
	return doc
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
