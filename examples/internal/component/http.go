package component

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/examples/internal/deadletter"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/health"
	"github.com/withobsrvr/sluice/monitor/prommonitor"
)

// serveHTTP starts the HTTP side: the component is alive from here on, and
// ready once it serves.
func (c *Component) serveHTTP() error {
	var err error
	if c.monitor, err = monitor.New(monitor.Config{Interval: c.MonitoringInterval}); err != nil {
		return err
	}
	about := health.Config{ServiceID: c.ID, Description: string(c.Role), Version: Version(), Logger: c.Log}
	if c.health, err = health.New(c.monitor, about); err != nil {
		return err
	}
	c.health.AddCheck("serving", func(context.Context) error {
		if !c.ready.Load() {
			return errors.New("not serving")
		}
		return nil
	})
	c.series.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics, err := prommonitor.NewHandler(c.monitor, prommonitor.HandlerConfig{Registry: c.series})
	if err != nil {
		return err
	}
	c.watch()
	c.monitor.Start()
	c.closers = append(c.closers, c.monitor.Stop)
	c.mux.Handle("/", c.health.Handler(metrics))
	c.web = &http.Server{
		Handler: c.Security.Guard(c.mux), ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: handshakeTimeout, ReadTimeout: handshakeTimeout, WriteTimeout: time.Minute,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: maxHeaderBytes,
	}
	c.background.Go(func() {
		if err := c.web.Serve(c.Security.ListenHTTP(c.http)); !errors.Is(err, http.ErrServerClosed) {
			c.Log.Error("HTTP ended", "error", err)
		}
	})
	return nil
}

// Gauge adds a series of the component's own to its metrics. Value is asked at each
// scrape, from any goroutine.
func (c *Component) Gauge(name, help string, value func() float64) {
	c.series.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// Counter is [Component.Gauge] for what only grows.
func (c *Component) Counter(name, help string, value func() float64) {
	c.series.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
}

// DeadLetters opens the folder for ledgers that cannot be used, and counts them in
// a series. It returns nil for the empty name.
func (c *Component) DeadLetters(dir string) (*deadletter.Folder, error) {
	if dir == "" {
		return nil, nil
	}
	folder, err := deadletter.Open(dir, c.Log)
	if err != nil {
		return nil, err
	}
	c.Counter("stellar_ledgers_set_aside_total", "Ledgers that could not be used and went to the dead-letter folder.",
		func() float64 {
			return float64(folder.Count())
		})
	return folder, nil
}

// watch shows the monitor everything that the component has.
func (c *Component) watch() {
	c.monitor.WatchService(monitor.ServiceInfo{ID: c.ID, Kind: kinds[c.Role], Version: Version()})
	c.monitor.WatchThrottler(c.ID, c.Stage)
	c.monitor.WatchServer(c.ID, c.interceptors)
	c.monitor.WatchPools(c.ID, c.pools.manager)
}

// setStatus serves /status from here on.
func (c *Component) setStatus(s Service) {
	c.mux.Handle("GET /status", statusHandler(func() any { return c.status(s) }))
}

func (c *Component) status(s Service) Status {
	fraction, throttled := c.clock.fraction()
	c.peak.note(c.Stage.Load())
	st := Status{
		ID: c.ID, Role: c.Role,
		InFlight: c.Stage.InFlight().Messages, MaxInFlight: c.Stage.Limit().Messages, Load: c.Stage.Load(),
		PeakLoad: c.peak.load(),
		Fraction: fraction, ThrottledSeconds: throttled.Seconds(), PacedSeconds: c.Gate.Stats().WaitTotal.Seconds(),
	}
	if agent := c.agent.Load(); agent != nil {
		st.Connected = agent.Mode() == backpressure.Coordinated
	}
	if s.Work != nil {
		if work, err := json.Marshal(s.Work()); err == nil {
			st.Work = work
		}
	}
	return st
}
