package controlplane

import (
	"context"
	"maps"
	"time"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/internal/wire/flowctlv1pb"
)

// poll serves a control plane that has only the stock services: it cannot push,
// so the agent reads the other components' metrics from it and runs the same
// controller by itself. Every agent of the pipeline sees the same metrics, so
// they decide alike, within a poll's age.
func (a *Agent) poll(ctx context.Context, use dialect) error {
	known := map[string]bool{}
	a.mode.Store(uint32(Polling))
	defer func() {
		for id := range known {
			a.local.RemoveService(id)
		}
	}()
	ticker := time.NewTicker(a.local.Config().Interval)
	defer ticker.Stop()
	var beat time.Time
	for {
		if now := time.Now(); now.Sub(beat) >= a.cfg.HeartbeatInterval || a.moved(beat) {
			beat = now
			report := a.report()
			metrics := metricsOf(report, report.Fraction, a.local.Active())
			if a.cfg.Metrics != nil {
				maps.Copy(metrics, a.cfg.Metrics())
			}
			if err := a.call(ctx, func(ctx context.Context) error { return use.beat(ctx, a.serviceID(), metrics) }); err != nil {
				return err
			}
		}
		if err := a.call(ctx, func(ctx context.Context) error { return a.readOthers(ctx, use, known) }); err != nil {
			return err
		}
		a.hear()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// moved says whether the load is worth a heartbeat before it is due. Stock
// control planes see load only through heartbeats, so a throttled or loaded
// component beats every interval.
func (a *Agent) moved(last time.Time) bool {
	r := a.report()
	busy := r.MaxInFlight > 0 && float64(r.InFlight) >= DefaultLoadStep*float64(r.MaxInFlight)
	return busy && time.Since(last) >= a.local.Config().Interval
}

func (a *Agent) readOthers(ctx context.Context, use dialect, known map[string]bool) error {
	reports, err := use.list(ctx)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, report := range reports {
		if report.ServiceID == a.serviceID() {
			continue
		}
		if err := a.local.Report(report); err != nil {
			a.log.Debug("another component's metrics refused", "error", err)
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

func (a *Agent) newer() dialect {
	client := flowctlv1pb.Client{Conn: a.conn}
	return dialect{
		beat: func(ctx context.Context, id string, metrics map[string]float64) error {
			text := make(map[string]string, len(metrics))
			for key, v := range metrics {
				text[key] = formatMetric(v)
			}
			_, err := client.Heartbeat(ctx, &flowctlv1pb.HeartbeatRequest{ServiceId: id, Status: flowctlv1pb.HealthStatus_HEALTH_STATUS_HEALTHY, Metrics: text})
			return err
		},
		list: func(ctx context.Context) ([]backpressure.Report, error) {
			list, err := client.ListComponents(ctx, &flowctlv1pb.ListComponentsRequest{})
			if err != nil {
				return nil, err
			}
			var reports []backpressure.Report
			for _, c := range list.GetComponents() {
				component, _ := fromV1(c.GetComponent())
				report := reportOf(component.ID, component.MaxInFlight, in(parseMetrics(c.GetMetrics())))
				report.Role, report.Upstreams = component.Role, component.Upstreams
				reports = append(reports, report)
			}
			return reports, nil
		},
	}
}

func (a *Agent) older() dialect {
	client := flowctlpb.Client{Conn: a.conn}
	return dialect{
		beat: func(ctx context.Context, id string, metrics map[string]float64) error {
			_, err := client.Heartbeat(ctx, &flowctlpb.ServiceHeartbeat{ServiceId: id, Metrics: metrics})
			return err
		},
		list: func(ctx context.Context) ([]backpressure.Report, error) {
			list, err := client.ListServices(ctx)
			if err != nil {
				return nil, err
			}
			var reports []backpressure.Report
			for _, service := range list.GetServices() {
				if service.GetIsHealthy() {
					report := reportOf(service.GetServiceId(), 0, in(service.GetMetrics()))
					report.Role = roleFromFlowctl(service.GetServiceType())
					reports = append(reports, report)
				}
			}
			return reports, nil
		},
	}
}
