package component

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// serveHTTP starts the HTTP side: the component is alive from here on, and
// ready once it serves.
func (c *Component) serveHTTP() error {
	c.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	c.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !c.ready.Load() {
			http.Error(w, "not serving", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	c.web = &http.Server{Handler: c.mux, ReadHeaderTimeout: 10 * time.Second}
	c.background.Go(func() {
		if err := c.web.Serve(c.http); !errors.Is(err, http.ErrServerClosed) {
			c.Log.Error("HTTP ended", "error", err)
		}
	})
	return nil
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
		InFlight: c.Stage.InFlight().Messages, MaxInFlight: c.Stage.Limit().Messages, Load: c.Stage.Load(), PeakLoad: c.peak.load(),
		Fraction: fraction, ThrottledSeconds: throttled.Seconds(),
	}
	if s.Work != nil {
		if work, err := json.Marshal(s.Work()); err == nil {
			st.Work = work
		}
	}
	return st
}
