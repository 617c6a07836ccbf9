package monitor

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Point is one look of a started monitor, kept for sparklines. Load is a ratio,
// Throughput in events per second, Fraction the share that is let through.
type Point struct {
	Time       time.Time      `json:"time"`
	Load       float32        `json:"load"`
	Throughput float32        `json:"throughput"`
	Latency    float32        `json:"latency_seconds"`
	Fraction   float32        `json:"fraction"`
	Active     bool           `json:"active"`
	Services   []ServicePoint `json:"services"`
}

// ServicePoint is one service at one look.
type ServicePoint struct {
	ID         string  `json:"id"`
	Load       float32 `json:"load"`
	Throughput float32 `json:"throughput"`
}

// history is a ring. It begins with room for all its points, and a point's list of
// services is made anew each time, because callers share it.
type history struct {
	size int

	mu     sync.Mutex
	points []Point // a ring once it is full
	next   int
}

// add keeps the few figures that a sparkline needs. A history of size 0 is off.
func (h *history) add(s *Snapshot) {
	if h.size == 0 {
		return
	}
	p := Point{Time: s.Time, Fraction: 1, Services: make([]ServicePoint, len(s.Services))}
	if s.Pipeline != nil {
		p.Load, p.Throughput = small(s.Pipeline.Load), small(s.Pipeline.Throughput)
		p.Latency, p.Fraction = small(s.Pipeline.Latency.Seconds()), small(s.Pipeline.Fraction)
		p.Active = s.Pipeline.Active
	}
	for i := range s.Services {
		v := &s.Services[i]
		p.Services[i] = ServicePoint{ID: v.ID, Load: small(v.Load), Throughput: small(v.Throughput)}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.points) < h.size {
		h.points = append(h.points, p)
		return
	}
	h.points[h.next] = p
	h.next = (h.next + 1) % h.size
}

// small is v in half of its size, and finite: JSON knows no infinity.
func small(v float64) float32 { return float32(min(v, math.MaxFloat32)) }

// History returns the points that are kept, the oldest first. They are shared:
// do not change what they hold.
func (m *Monitor) History() []Point {
	m.history.mu.Lock()
	defer m.history.mu.Unlock()
	h := &m.history
	return slices.Concat(h.points[h.next:], h.points[:h.next])
}
