package health

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Handler serves what is known, to be mounted anywhere, also behind a
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
func (h *Health) Handler(metrics http.Handler) http.Handler {
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
			h.readyz(w, r, last)
		case before == "livez":
			http.NotFound(w, r)
		case last == "metrics" && metrics != nil:
			metrics.ServeHTTP(w, r)
		case last == "livez":
			h.livez(w, r)
		case last == "readyz":
			h.readyz(w, r, "")
		case last == "health" || last == "healthz":
			h.health(w, r)
		case last == "report":
			writeJSON(w, r, "application/json", http.StatusOK, h.Report())
		case last == "history":
			writeJSON(w, r, "application/json", http.StatusOK, notNil(h.monitor.History()))
		case last == "alerts":
			writeJSON(w, r, "application/json", http.StatusOK, notNil(h.alerts.Alerts()))
		default:
			http.NotFound(w, r)
		}
	})
}

// notNil makes an empty list of none: clients iterate over [], and stumble over null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// writeJSON marshals before it writes, so that a failure has a status of its own.
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
func (h *Health) livez(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Query().Has("verbose") {
		_, _ = fmt.Fprintln(w, "[+]process ok\nlivez check passed")
		return
	}
	_, _ = fmt.Fprint(w, "ok")
}

// readyz asks the checks in the request's own goroutine. It names the checks that
// failed and never says why: errors may hold addresses and credentials, and go to
// the log.
func (h *Health) readyz(w http.ResponseWriter, r *http.Request, only string) {
	query := r.URL.Query()
	excluded := query["exclude"]
	results := h.ask(r.Context(), func(name string) bool {
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
