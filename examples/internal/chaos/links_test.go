//go:build unix

package chaos

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// A link carries the connections from one component to another.
type link struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
	port  int // where it listens
}

func newLink(t *testing.T, name string, upstream int) *link {
	port := freePort(t)
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxics have a logger of their own
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.New(io.Discard))
	l := &link{t, toxiproxy.NewProxy(server, name, fmt.Sprintf("localhost:%d", port), fmt.Sprintf("localhost:%d", upstream)), port}
	require.NoError(t, l.proxy.Start())
	t.Cleanup(l.proxy.Stop)
	return l
}

// cut closes every connection and takes no new one for a time.
func (l *link) cut(d time.Duration) {
	l.proxy.Stop()
	<-time.After(d)
	require.NoError(l.t, l.proxy.Start())
}

// slow lets 20 KB a second through, each 100 ms late, for a time.
func (l *link) slow(d time.Duration) {
	l.add(`{"name":"late","type":"latency","attributes":{"latency":100}}`)
	l.add(`{"name":"narrow","type":"bandwidth","attributes":{"rate":20}}`)
	<-time.After(d)
	l.remove("narrow", "late")
}

// halfOpen keeps every connection open, and lets nothing through, until seen
// returns. What was sent meanwhile is lost.
func (l *link) halfOpen(seen func()) {
	l.add(`{"name":"down","type":"timeout","attributes":{"timeout":0}}`)
	l.add(`{"name":"up","type":"timeout","stream":"upstream","attributes":{"timeout":0}}`)
	seen()
	l.remove("down", "up")
}

func (l *link) add(toxic string) {
	_, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic))
	require.NoError(l.t, err)
}

func (l *link) remove(names ...string) {
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	for _, name := range names {
		require.NoError(l.t, l.proxy.Toxics.RemoveToxic(ctx, name))
	}
}

// unready waits until the sink says that it is not ready: 30 s at most, which is
// what is promised.
func (w *world) unready() {
	url := fmt.Sprintf("http://localhost:%d/readyz", w.health)
	for began := time.Now(); ; {
		response, err := http.Get(url)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusServiceUnavailable {
				return
			}
		}
		require.Less(w.t, time.Since(began), 30*time.Second, "the sink is ready though nothing comes")
		<-time.After(50 * time.Millisecond)
	}
}
