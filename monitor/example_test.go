package monitor_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/health"
	"github.com/withobsrvr/sluice/monitor/prommonitor"
	"github.com/withobsrvr/sluice/topology"
)

func Example() {
	throttler, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 64}})
	if err != nil {
		fmt.Println(err)
		return
	}

	m, err := monitor.New(monitor.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	m.WatchService(monitor.ServiceInfo{ID: "archive", Kind: topology.KindSink, Upstreams: []string{"ledgers"}})
	m.WatchThrottler("archive", throttler)

	metrics, err := prommonitor.NewHandler(m, prommonitor.HandlerConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	h, err := health.New(m, health.Config{ServiceID: "archive", Version: "v1.2.3"})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/", h.Handler(metrics))
	m.Start()
	defer m.Stop()

	server := httptest.NewServer(mux)
	defer server.Close()
	for _, page := range []string{"/metrics", "/livez", "/readyz", "/health", "/report"} {
		response, err := http.Get(server.URL + page)
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = response.Body.Close()
		fmt.Println(page, response.StatusCode, response.Header.Get("Content-Type"))
	}
	// Output:
	// /metrics 200 text/plain; version=0.0.4; charset=utf-8; escaping=underscores
	// /livez 200 text/plain; charset=utf-8
	// /readyz 200 text/plain; charset=utf-8
	// /health 200 application/health+json
	// /report 200 application/json
}

func ExampleMonitor_Watch() {
	m, err := monitor.New(monitor.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	written := uint64(1200) // your own counter
	m.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
		v := d.Service("archive")
		v.Local = true
		v.Out.Events = written
	}))
	fmt.Println(m.Snapshot().Service("archive").Out.Events)
	// Output: 1200
}
