package agent

import (
	"context"
	"maps"
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
func (a *Agent) poll(ctx context.Context, service stockService) error {
	known := map[string]bool{}
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
			if err := a.call(ctx, func(ctx context.Context) error { return service.beat(ctx, a.serviceID(), a.heartbeat()) }); err != nil {
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

// heartbeat is what the component sends to a stock service.
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

func (a *Agent) readOthers(ctx context.Context, service stockService, known map[string]bool) error {
	all, err := service.list(ctx)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range all {
		report := all[i].Report
		if report.ServiceID == a.serviceID() || !all[i].Healthy() {
			continue
		}
		if err := a.local.Report(report); err != nil {
			a.log.Debug("another component's metrics rejected", "error", err)
			continue
		}
		seen[report.ServiceID], known[report.ServiceID] = true, true
	}
	for id := range known {
		if !seen[id] {
			a.local.RemoveService(id)
			delete(known, id)
		}
	}
	return nil
}

func (a *Agent) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.CallTimeout)
	defer cancel()
	return f(ctx)
}

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
