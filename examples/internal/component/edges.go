package component

import (
	"sync"
	"time"

	"github.com/withobsrvr/sluice/internal/rate"
	"github.com/withobsrvr/sluice/topology"
)

// upstream is the connection to who is read, as the control plane shows it: its
// rate and how much of the time the sender had to wait for us.
type upstream struct {
	id, endpoint string
	unwatch      func()

	mu     sync.Mutex
	rate   rate.Meter // events
	bytes  rate.Meter
	waited rate.Meter // blocked seconds
	last   time.Time  // connected
}

// edges reports the one edge of this component, if it reads anybody.
func (c *Component) edges() []topology.Edge {
	u := c.upstream.Load()
	if u == nil {
		return nil
	}
	var rows, bytes, active int64
	var held time.Duration
	for _, class := range c.pools.client.Stats().Classes {
		if class.Class.Bulk() {
			rows += max(class.Received.Rows, class.Received.Messages)
			bytes += class.Received.Bytes
			active += class.Active
			held += class.Busy + class.Throttled // an open stream that we do not read from
		}
	}
	edge := u.look(rows, bytes, active, held, time.Now())
	edge.Latency = c.pools.roundTrip(u.endpoint)
	return []topology.Edge{edge}
}

func (u *upstream) look(rows, bytes, active int64, held time.Duration, now time.Time) topology.Edge {
	u.mu.Lock()
	defer u.mu.Unlock()
	if active > 0 {
		u.last = now
	}
	edge := topology.Edge{
		From: u.id, Endpoint: u.endpoint, State: topology.StateConnected, LastConnected: u.last,
		Throughput: u.rate.Update(now, float64(rows)), ByteRate: u.bytes.Update(now, float64(bytes)),
		Blocked: min(u.waited.Update(now, held.Seconds())/float64(max(active, 1)), 1),
	}
	if active == 0 { // no stream is open: nothing flows and nobody waits, from now on
		edge.State = topology.StateDown
		edge.Throughput, edge.ByteRate, edge.Blocked = 0, 0, 0
	}
	return edge
}
