package monitor

import (
	"maps"
	"slices"

	"github.com/withobsrvr/sluice/connpool"
)

// WatchPool watches a connection pool that the service of that id uses.
func (m *Monitor) WatchPool(serviceID string, p interface{ Stats() connpool.Stats }) (stop func()) {
	return m.Watch(SourceFunc(func(d *Draft) { d.addPool(serviceID, p.Stats()) }))
}

// WatchPools watches all pools of a manager, those included that it makes later.
func (m *Monitor) WatchPools(serviceID string, p interface{ Stats() []connpool.Stats }) (stop func()) {
	return m.Watch(SourceFunc(func(d *Draft) {
		for _, stats := range p.Stats() {
			d.addPool(serviceID, stats)
		}
	}))
}

func (d *Draft) addPool(serviceID string, s connpool.Stats) {
	p := d.Pool(s.Endpoint)
	p.Total += int64(s.TotalConnections)
	p.Healthy += int64(s.HealthyConnections)
	p.Idle += int64(s.IdleConnections)
	p.Connecting += int64(s.Connecting)
	p.Limit += int64(s.MaxConnections)
	wanted := int64(s.TotalConnections)
	if s.HealthyConnections == 0 && s.LastError != nil { // between two attempts there may be none at all
		wanted = max(wanted, 1)
	}
	p.Wanted += wanted
	p.Streams += int64(s.Streams)
	p.Waiters += int64(s.Waiting)
	p.Waits += s.Waits
	p.WaitTime += s.WaitTime
	p.Wait.add(&Histogram{Bounds: durationBounds[:], Counts: s.WaitBuckets[:], Sum: s.WaitTime.Seconds()})
	for _, n := range s.Opened {
		p.Opened += n
	}
	p.AddAcquires("ok", uint64(max(0, s.TotalUseCount)))
	for _, reason := range slices.Sorted(maps.Keys(s.Rejected)) {
		p.AddAcquires(reason.String(), s.Rejected[reason])
	}
	for _, reason := range slices.Sorted(maps.Keys(s.Closed)) {
		p.AddClosed(reason, s.Closed[reason])
	}

	v := d.Service(serviceID)
	v.Local = true
	v.AddConnections(s.Endpoint, int64(s.HealthyConnections))
	// A connection that its health check took out, and one whose server was
	// lost, come back as new ones.
	d.Reconnections(serviceID, "health_check", s.Ejections)
	d.Reconnections(serviceID, "unreachable", s.Closed["lost"])
}
