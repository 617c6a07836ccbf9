package monitor

import (
	"slices"

	"github.com/withobsrvr/sluice/topology"
)

// ServiceInfo says what a service is.
type ServiceInfo struct {
	ID      string
	Kind    topology.Kind
	Version string
	// Upstreams are the ids of the services that feed it.
	Upstreams []string
}

// WatchService says that this process runs a service, and what it is. Its
// figures come from what else is watched under the same id.
func (m *Monitor) WatchService(info ServiceInfo) (stop func()) {
	info.Upstreams = slices.Clone(info.Upstreams)
	return m.Watch(SourceFunc(func(d *Draft) {
		v := d.Service(info.ID)
		v.Local = true
		v.describe(info)
	}))
}

func (v *Service) describe(info ServiceInfo) {
	if k := known(info.Kind); k != topology.KindUnknown {
		v.Kind = k
	}
	if info.Version != "" {
		v.Version = info.Version
	}
	if info.Upstreams != nil {
		v.Upstreams = info.Upstreams
	}
}
