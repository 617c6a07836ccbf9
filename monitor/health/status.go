package health

import (
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/topology"
)

// Status is the verdict on a service, a dimension of the report or the whole.
// A larger one is worse.
type Status uint8

// The verdicts. Unknown is better than Healthy in their order, so that what is not
// known never hides what is.
const (
	Unknown Status = iota
	Healthy
	Degraded
	Unhealthy
)

var statuses = [...]string{"unknown", "healthy", "degraded", "unhealthy"}

// String returns the verdict's name.
func (s Status) String() string { return statuses[s] }

// MarshalText makes the verdict its name in JSON.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a verdict's name. Anything else is [Unknown].
func (s *Status) UnmarshalText(text []byte) error {
	*s = Unknown
	for i, name := range statuses {
		if name == string(text) {
			*s = Status(i)
		}
	}
	return nil
}

// statusOf is the verdict on what a service says of itself, or others of it. A
// service that starts or stops is degraded: it takes no full load yet, or no more.
func statusOf(v *monitor.Service) Status {
	switch {
	case !v.Working():
		return Unhealthy
	case v.Health == topology.HealthStarting, v.Health == topology.HealthDegraded, v.Health == topology.HealthStopping:
		return Degraded
	default:
		return Healthy
	}
}

// below says that less than a share of the connections that a pool wants works.
// It asks about the wanted ones, not about those that exist: of none at all, no
// share is missing.
func below(p *monitor.Pool, share float64) bool { return float64(p.Healthy) < share*float64(p.Wanted) }
