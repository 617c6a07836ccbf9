package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// check is one condition of readiness.
type check struct {
	name string
	ask  func(context.Context) error
}

// checkPatience bounds one readiness check.
const checkPatience = 2 * time.Second

// AddCheck adds a condition of readiness: ask returns nil while it holds. It
// gets a context that ends after two seconds. The text of its error goes to the
// log, never to who asks over HTTP.
func (m *Monitor) AddCheck(name string, ask func(context.Context) error) {
	name = strings.Map(func(r rune) rune {
		if r == '/' || r == '\n' || r == '\r' || r == '?' {
			return '-'
		}
		return r
	}, name)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checks = append(slices.Clip(m.checks), check{name, ask})
}

// Handler serves what the monitor knows, to be mounted anywhere, also behind a
// prefix: it looks at the last elements of the path.
//
//	metrics           the handler given, of package prommonitor; nil: not found
//	livez             200 while the process answers, whatever the load
//	readyz            200 when all checks hold; readyz/NAME for one of them,
//	                  ?verbose for a line each, ?exclude=NAME to leave some out
//	health            application/health+json; backpressure warns, does not fail
//	report            the [Report] as JSON
//	history           the history as JSON, for sparklines
//	alerts            the alerts as JSON
//
// It changes nothing and answers GET and HEAD only.
func (m *Monitor) Handler(metrics http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		last, before := parts[len(parts)-1], ""
		if len(parts) > 1 {
			before = parts[len(parts)-2]
		}
		switch {
		case before == "readyz":
			m.readyz(w, r, last)
		case before == "livez":
			http.NotFound(w, r)
		case last == "metrics" && metrics != nil:
			metrics.ServeHTTP(w, r)
		case last == "livez":
			m.livez(w, r)
		case last == "readyz":
			m.readyz(w, r, "")
		case last == "health" || last == "healthz":
			m.health(w, r)
		case last == "report":
			writeJSON(w, r, "application/json", http.StatusOK, m.Report())
		case last == "history":
			writeJSON(w, r, "application/json", http.StatusOK, notNil(m.History()))
		case last == "alerts":
			writeJSON(w, r, "application/json", http.StatusOK, notNil(m.Alerts()))
		default:
			http.NotFound(w, r)
		}
	})
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func writeJSON(w http.ResponseWriter, _ *http.Request, mediaType string, code int, body any) {
	text, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n'))
}

// livez depends on nothing: a restart cures neither load nor somebody else.
func (m *Monitor) livez(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Query().Has("verbose") {
		_, _ = fmt.Fprintln(w, "[+]process ok\nlivez check passed")
		return
	}
	_, _ = fmt.Fprint(w, "ok")
}

// checkResult is the outcome of one check.
type checkResult struct {
	name string
	err  error
}

func (m *Monitor) ask(ctx context.Context, wanted func(string) bool) (results []checkResult) {
	m.mu.Lock()
	checks := m.checks
	m.mu.Unlock()
	for _, c := range checks {
		if !wanted(c.name) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, checkPatience)
		err := c.ask(ctx)
		cancel()
		if err != nil {
			m.cfg.Logger.Warn("readiness check failed", "check", c.name, "error", err)
		}
		results = append(results, checkResult{c.name, err})
	}
	return results
}

func (m *Monitor) readyz(w http.ResponseWriter, r *http.Request, only string) {
	query := r.URL.Query()
	excluded := query["exclude"]
	results := m.ask(r.Context(), func(name string) bool {
		return (only == "" || name == only) && !slices.Contains(excluded, name)
	})
	if only != "" && len(results) == 0 && !slices.Contains(excluded, only) {
		http.NotFound(w, r)
		return
	}
	failed := slices.ContainsFunc(results, func(c checkResult) bool { return c.err != nil })
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if failed {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if !failed && !query.Has("verbose") {
		_, _ = fmt.Fprint(w, "ok")
		return
	}
	for _, c := range results {
		if c.err != nil {
			_, _ = fmt.Fprintf(w, "[-]%s failed: reason withheld\n", c.name)
		} else {
			_, _ = fmt.Fprintf(w, "[+]%s ok\n", c.name)
		}
	}
	for _, name := range excluded {
		_, _ = fmt.Fprintf(w, "[+]%q excluded: ok\n", name)
	}
	if failed {
		_, _ = fmt.Fprintln(w, "readyz check failed")
	} else {
		_, _ = fmt.Fprintln(w, "readyz check passed")
	}
}
