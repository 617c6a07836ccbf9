package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/internal/convert"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
)

// poll serves a control plane that has only the stock services: it cannot push,
// so the agent reads the other components' metrics from it and runs the same
// controller by itself. Every agent of the pipeline sees the same metrics, so
// they decide alike, within a poll's age.
//
// It costs the control plane a list of all components for each agent and interval:
// that is for tens of components, not for thousands. It returns the first error of a
// call; the agent then registers again.
func (a *Agent) poll(ctx context.Context, service stockService) error {
	known := map[string]observation{}
	a.setMode(backpressure.Polling)
	defer func() {
		for id := range known {
			a.local.RemoveService(id)
		}
	}()
	ticker := time.NewTicker(a.local.Config().Interval)
	defer ticker.Stop()
	var beat time.Time
	for {
		if now := time.Now(); now.Sub(beat) >= a.cfg.HeartbeatInterval || a.loaded() {
			beat = now
			if err := a.call(ctx, func(ctx context.Context) error {
				return service.beat(ctx, a.serviceID(), a.heartbeat())
			}); err != nil {
				return err
			}
		}
		if err := a.call(ctx, func(ctx context.Context) error { return a.readOthers(ctx, service, known) }); err != nil {
			return err
		}
		a.touch()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// An observation is what was last reported of another component.
type observation struct {
	at        time.Time // its heartbeat; zero: the control plane does not say
	upstreams []string
}

// heartbeat is what the component sends to a stock service: all of it each time,
// because such a server may have dropped what came before.
func (a *Agent) heartbeat() map[string]float64 {
	metrics := map[string]float64{}
	if a.cfg.Metrics != nil {
		maps.Copy(metrics, a.cfg.Metrics())
	}
	report := a.report()
	convert.MetricsFromReport(metrics, &report, a.local.Active())
	return metrics
}

// loaded says whether the load is worth a heartbeat at every interval: stock
// control planes see load only through heartbeats.
func (a *Agent) loaded() bool {
	r := a.report()
	return r.MaxInFlight > 0 && float64(r.InFlight) >= controlplane.DefaultLoadStep*float64(r.MaxInFlight)
}

// readOthers reports to the local decision what the control plane knows of the
// other components, each heartbeat once: one that is read again says nothing new.
// Paths follow declared upstreams or event types, as the server's do, and components
// of other pipelines have no part in them.
func (a *Agent) readOthers(ctx context.Context, service stockService, known map[string]observation) error {
	all, err := service.list(ctx)
	if err != nil {
		return err
	}
	producers := convert.Producers{}
	for i := range all {
		producers.Add(&all[i].Component)
	}
	a.setUpstreams(producers.Upstreams(&a.cfg.Component))
	seen := map[string]bool{}
	for i := range all {
		c := &all[i]
		if c.ID == a.serviceID() || !c.Healthy() || c.PipelineID != a.cfg.Component.PipelineID {
			continue
		}
		now := observation{at: c.LastHeartbeat, upstreams: producers.Upstreams(&c.Component)}
		last, again := known[c.ID]
		if again && !now.at.IsZero() && now.at.Equal(last.at) && slices.Equal(now.upstreams, last.upstreams) {
			seen[c.ID] = true
			continue
		}
		c.Report.Upstreams = now.upstreams
		if err := a.local.Report(c.Report); err != nil {
			a.log.Debug("another component's metrics rejected", "error", err)
			continue
		}
		seen[c.ID], known[c.ID] = true, now
	}
	for id := range known {
		if !seen[id] {
			a.local.RemoveService(id)
			delete(known, id)
		}
	}
	return nil
}

// call bounds one call to the control plane by CallTimeout. What f leaves undone is
// done anew at the next interval.
func (a *Agent) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.CallTimeout)
	defer cancel()
	return f(ctx)
}

// newerService is flowctl.v1, through which deployed control planes show metrics.
func newerService(conn grpc.ClientConnInterface) stockService {
	client := flowctlv1pb.Client{Conn: conn}
	return stockService{
		beat: func(ctx context.Context, id string, metrics map[string]float64) error {
			_, err := client.Heartbeat(ctx, &flowctlv1pb.HeartbeatRequest{
				ServiceId: id, Status: flowctlv1pb.HealthStatus_HEALTH_STATUS_HEALTHY, Metrics: convert.FormatMetrics(metrics),
			})
			return err
		},
		list: func(ctx context.Context) ([]controlplane.Status, error) {
			list, err := client.ListComponents(ctx, &flowctlv1pb.ListComponentsRequest{IncludeUnhealthy: true})
			if err != nil {
				return nil, err
			}
			all := make([]controlplane.Status, 0, len(list.GetComponents()))
			for _, c := range list.GetComponents() {
				all = append(all, convert.StatusFromV1(c))
			}
			return all, nil
		},
	}
}

// olderService is flowctl's first service. Deployed control planes that have both
// drop the metrics of its heartbeats, so it is the second choice.
func olderService(conn grpc.ClientConnInterface) stockService {
	client := flowctlpb.Client{Conn: conn}
	return stockService{
		beat: func(ctx context.Context, id string, metrics map[string]float64) error {
			_, err := client.Heartbeat(ctx, &flowctlpb.ServiceHeartbeat{ServiceId: id, Metrics: metrics})
			return err
		},
		list: func(ctx context.Context) ([]controlplane.Status, error) {
			list, err := client.ListServices(ctx)
			if err != nil {
				return nil, err
			}
			all := make([]controlplane.Status, 0, len(list.GetServices()))
			for _, service := range list.GetServices() {
				all = append(all, convert.StatusFromFlowctl(service))
			}
			return all, nil
		},
	}
}
