package monitor

import (
	"net/http"
	"slices"
	"time"
)

// HealthDocument is the body of /health, after the Internet draft
// draft-inadarei-api-health-check-06.
type HealthDocument struct {
	Status      string                   `json:"status"` // pass, warn or fail
	Version     string                   `json:"version,omitempty"`
	ServiceID   string                   `json:"serviceId"`
	Description string                   `json:"description,omitempty"`
	Notes       []string                 `json:"notes,omitempty"`
	Checks      map[string][]HealthCheck `json:"checks"`
}

// HealthCheck is one observation in a [HealthDocument].
type HealthCheck struct {
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
func (m *Monitor) health(w http.ResponseWriter, r *http.Request) {
	doc := m.healthDocument()
	for _, c := range m.ask(r.Context(), func(string) bool { return true }) {
		check := HealthCheck{ComponentID: c.name, ComponentType: "component", ObservedValue: 1, ObservedUnit: "bool", Status: pass, Time: time.Now()}
		if c.err != nil {
			check.ObservedValue, check.Status, doc.Status = 0, fail, fail
		}
		doc.Checks["ready:"+c.name] = []HealthCheck{check}
	}
	code := http.StatusOK
	if doc.Status == fail {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, r, "application/health+json", code, doc)
}

func (m *Monitor) healthDocument() HealthDocument {
	s := m.Snapshot()
	r := m.report(s)
	doc := HealthDocument{
		Status: pass, Version: m.cfg.Version, ServiceID: m.cfg.ServiceID, Description: m.cfg.Description,
		Notes: []string{r.Summary}, Checks: map[string][]HealthCheck{},
	}
	add := func(key, id, kind string, value float64, unit string, bad bool) {
		c := HealthCheck{ComponentID: id, ComponentType: kind, ObservedValue: value, ObservedUnit: unit, Status: pass, Time: s.Time}
		if bad {
			c.Status, doc.Status = warn, warn
		}
		doc.Checks[key] = append(doc.Checks[key], c)
	}
	if p := s.Pipeline; p != nil {
		add("pipeline:backpressure", "pipeline", "system", oneIf(p.Active), "bool", p.Active)
		add("pipeline:latency", "pipeline", "system", p.Latency.Seconds(), "s", p.Latency > m.cfg.Thresholds.Latency)
	}
	for i := range s.Services {
		v := &s.Services[i]
		add("service:load", v.ID, "component", v.Load, "ratio", v.Load > m.cfg.Thresholds.Load)
		add("service:health", v.ID, "component", oneIf(v.Health != Unhealthy), "bool", v.Health >= Degraded)
	}
	for i := range s.Pools {
		p := &s.Pools[i]
		add("pool:connections", p.Endpoint, "component", float64(p.Healthy), "connection", p.unhealthy(m.cfg.Thresholds.PoolHealth))
	}
	if doc.Status == pass && r.Status >= Degraded { // an alert fires, or work fails
		doc.Status = warn
	}
	doc.Notes = slices.DeleteFunc(doc.Notes, func(note string) bool { return note == "" })
	return doc
}
