package health_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/health"
)

// FuzzReadyz: no path or query makes the handler fail or panic.
func FuzzReadyz(f *testing.F) {
	f.Add("/readyz/x", "verbose&exclude=a")
	f.Add("//", "%zz")
	f.Fuzz(func(t *testing.T, path, query string) {
		m, err := monitor.New(monitor.Config{})
		require.NoError(t, err)
		w := httptest.NewRecorder()
		newHealth(t, m, health.Config{}).Handler(nil).ServeHTTP(w, &http.Request{
			Method: http.MethodGet,
			URL:    &url.URL{Path: path, RawQuery: query}, Header: http.Header{},
		})
		require.Contains(t, []int{200, 404}, w.Code)
	})
}
