// This file holds the names that the handoff's map (docs/handoff-map.md)
// promises and that nothing else here needs: [Controller.Report] and
// [Controller.Snapshot] say all of it.

package backpressure

import "time"

// PipelineMetrics are the pipeline's figures at one moment, by service where there is
// one for each.
type PipelineMetrics struct {
	// TotalThroughput and EndToEndLatency are those of [Snapshot].
	TotalThroughput float64
	EndToEndLatency time.Duration

	ServiceThroughput map[string]float64       // events per second
	ServiceLatency    map[string]time.Duration // each stage's own part
	QueueDepths       map[string]int64
	ErrorRates        map[string]float64 // 0..1
	LastUpdated       time.Time          // of the newest report
}

// Metrics returns the figures of a [Snapshot] by name.
func (c *Controller) Metrics() PipelineMetrics {
	s := c.Snapshot()
	n := len(s.Services)
	m := PipelineMetrics{
		TotalThroughput:   s.TotalThroughput,
		EndToEndLatency:   s.EndToEndLatency,
		ServiceThroughput: make(map[string]float64, n),
		ServiceLatency:    make(map[string]time.Duration, n),
		QueueDepths:       make(map[string]int64, n),
		ErrorRates:        make(map[string]float64, n),
	}
	for i := range s.Services {
		v := &s.Services[i]
		m.ServiceThroughput[v.ServiceID] = v.Throughput
		m.ServiceLatency[v.ServiceID] = v.Latency
		m.QueueDepths[v.ServiceID] = v.QueueDepth
		m.ErrorRates[v.ServiceID] = v.ErrorRate
		if v.LastHeard.After(m.LastUpdated) {
			m.LastUpdated = v.LastHeard
		}
	}
	return m
}

// Loads returns the load of each service that is known, by its id; 1 is full.
func (c *Controller) Loads() map[string]float64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	loads := make(map[string]float64, len(c.services))
	for id, s := range c.services {
		loads[id] = s.load
	}
	return loads
}

// UpdateServiceInFlight is a [Controller.Report] that changes the in flight of a
// service that is known. The rest is as in its last report, except that Load is
// derived anew.
func (c *Controller) UpdateServiceInFlight(id string, inFlight int64) error {
	c.mu.Lock()
	r, known := c.lastReportLocked(id)
	if !known {
		c.mu.Unlock()
		return c.reject(&Error{Reason: UnknownService, ServiceID: shorten(id)})
	}
	r.InFlight = inFlight
	return c.takeAndUnlock(&r)
}

// UpdateServiceMaxInFlight is the same for the maximum. A service that is not
// known becomes known.
func (c *Controller) UpdateServiceMaxInFlight(id string, maxInFlight int64) error {
	c.mu.Lock()
	r, _ := c.lastReportLocked(id)
	r.MaxInFlight = maxInFlight
	return c.takeAndUnlock(&r)
}

// lastReportLocked is without what belonged to its moment.
func (c *Controller) lastReportLocked(id string) (r Report, known bool) {
	if s := c.services[id]; s != nil {
		r, known = s.report, true
	}
	r.ServiceID, r.Time, r.Load = id, time.Time{}, 0
	return r, known
}

func (c *Controller) takeAndUnlock(r *Report) error {
	changed, e := false, c.cfg.Load().checkReport(r, time.Now)
	if e == nil {
		changed, e = c.takeLocked(r)
	}
	c.mu.Unlock()
	return c.finish(changed, e)
}
