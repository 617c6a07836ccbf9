package page_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/page"
	"github.com/withobsrvr/sluice/topology/topologytest"
)

func get(h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func newPage(t *testing.T, src topology.Source, cfg page.Config) *page.Page {
	p := page.New(src, cfg)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func TestThePageIsSmallStrictAndReadsWithoutAScript(t *testing.T) {
	template, err := os.ReadFile("page.html")
	require.NoError(t, err)
	require.Less(t, len(template), 40_000)

	s := topologytest.NewScript()
	s.Play(topologytest.Throttled)
	w := get(newPage(t, s, page.Config{}), "/")
	require.Equal(t, http.StatusOK, w.Code)
	html := w.Body.String()
	require.Contains(t, html, "arrow-analytics-sink is the bottleneck: ")
	require.Contains(t, html, `<svg xmlns="http://www.w3.org/2000/svg" class="graph wide"`)
	require.Contains(t, html, `<th scope="row">ttp-arrow-processor</th>`)
	require.NotContains(t, html, ` style="`, "the policy would ignore it")

	policy := w.Header().Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	nonce := regexp.MustCompile(`script-src 'nonce-([A-Z2-7]+)'`).FindStringSubmatch(policy)[1]
	require.Equal(t, 2, strings.Count(html, `nonce="`+nonce+`"`))
	again := get(newPage(t, s, page.Config{}), "/")
	require.NotContains(t, again.Body.String(), nonce)
	for _, url := range regexp.MustCompile(`(?:href|src|fetch\(|EventSource\()=?["']([^"']+)`).FindAllStringSubmatch(html,
		-1) {
		require.NotRegexp(t, `^(/|https?:)`, url[1], "every URL is relative")
	}
}

// A browser gives an event stream up for good after any answer that is not 200.
// internal/interop/page proves the reconnection in a browser.
func TestThePageOpensItsStreamAgain(t *testing.T) {
	script, err := os.ReadFile("page.html")
	require.NoError(t, err)
	require.Regexp(t, `addEventListener\("error",\(\)=>\{if\(es\.readyState!==2\)return;setTimeout\(connect,`,
		string(script))
}

func TestRoutes(t *testing.T) {
	p := newPage(t, topologytest.NewScript(), page.Config{})
	for target, mediaType := range map[string]string{
		"/topology.json": "application/json", "/topology.svg": "image/svg+xml", "/topology.mmd": "text/plain; charset=utf-8",
		"/topology.dot": "text/vnd.graphviz; charset=utf-8", "/topology.txt": "text/plain; charset=utf-8",
		"/grafana.json": "application/json",
		"/frame":        "application/json", "/view": "text/html; charset=utf-8",
		"/below/a/prefix/": "text/html; charset=utf-8",
	} {
		w := get(p, target)
		require.Equal(t, http.StatusOK, w.Code, target)
		require.Equal(t, mediaType, w.Header().Get("Content-Type"))
	}
	require.Equal(t, http.StatusNotFound, get(p, "/favicon.ico").Code)
	require.Equal(t, http.StatusNotFound, get(p, "/frame?at=1").Code, "before the history")
	require.Equal(t, http.StatusNotFound, get(p, "/frame?at=x").Code)

	w := get(p, "/", "Accept", "application/json")
	g, err := topology.ReadJSON(w.Body)
	require.NoError(t, err)
	require.Len(t, g.Nodes, 4)

	w = httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))

	mux := http.NewServeMux()
	mux.Handle("/pipeline/", http.StripPrefix("/pipeline", p))
	require.Equal(t, http.StatusOK, get(mux, "/pipeline/events-are-not/topology.json").Code)
	bare := get(http.StripPrefix("/pipeline", p), "/pipeline?x=1")
	require.Equal(t, http.StatusMovedPermanently, bare.Code)
	require.Equal(t, "./pipeline/", bare.Header().Get("Location"))
}

// readFrame reads the next frame of a stream.
func readFrame(t *testing.T, r *bufio.Reader) (f struct {
	T   int64
	Rev string
	Set map[string]string
},
) {
	t.Helper()
	for frame := false; ; {
		text, err := r.ReadString('\n')
		require.NoError(t, err)
		if data, ok := strings.CutPrefix(text, "data: "); ok && frame {
			require.NoError(t, json.Unmarshal([]byte(data), &f))
			return f
		}
		frame = text == "event: frame\n"
	}
}

// pipeServer serves a handler over in-memory connections, inside a bubble.
func pipeServer(t *testing.T, h http.Handler, configure func(*http.Server)) *http.Client {
	conns := make(chan net.Conn)
	l := &pipeListener{conns: conns, closed: make(chan struct{})}
	srv := &http.Server{Handler: h}
	configure(srv)
	go srv.Serve(l)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		client, server := net.Pipe()
		select {
		case conns <- server:
			return client, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	t.Cleanup(func() { tr.CloseIdleConnections(); srv.Close() })
	return &http.Client{Transport: tr}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func TestTheStreamSurvivesWriteTimeoutsAndSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := topologytest.NewScript()
		p := newPage(t, s, page.Config{})
		client := pipeServer(t, p, func(srv *http.Server) { srv.WriteTimeout = 3 * time.Second })
		res, err := client.Get("http://pipe/events")
		require.NoError(t, err)
		defer res.Body.Close()
		require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
		r := bufio.NewReaderSize(res.Body, 16)
		first := readFrame(t, r)
		for range 30 { // ten times the server's timeout
			time.Sleep(time.Second)
			first = readFrame(t, r)
		}
		// The reader sleeps for seven seconds, less than one write may take. It
		// then gets what was being written, and then the newest: at most the two
		// frames that buffers held, never the seven.
		s.Play(topologytest.Throttled)
		time.Sleep(7500 * time.Millisecond)
		asleep := time.Now().UnixMilli()
		late := 0
		for f := readFrame(t, r); asleep-f.T > 1000; f = readFrame(t, r) {
			require.Greater(t, f.T, first.T)
			late++
		}
		require.LessOrEqual(t, late, 2)
		require.Equal(t, "active", readFrame(t, r).Set["f.active"])

		require.NoError(t, p.Close())
		_, err = io.Copy(io.Discard, r)
		require.NoError(t, err, "closing the page ends the stream cleanly")
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage(t, topologytest.NewScript(), page.Config{MaxStreams: 1})
		client := pipeServer(t, p, func(*http.Server) {})
		first, err := client.Get("http://pipe/events")
		require.NoError(t, err)
		readFrame(t, bufio.NewReader(first.Body))
		second, err := client.Get("http://pipe/events")
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, second.StatusCode)
		second.Body.Close()
		first.Body.Close()
		time.Sleep(2 * time.Second) // the next frame's write finds the reader gone
		third, err := client.Get("http://pipe/events")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, third.StatusCode)
		third.Body.Close()
	})
}

func TestLookingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := topologytest.NewScript()
		p := newPage(t, s, page.Config{History: 10 * time.Second})
		began := time.Now()
		time.Sleep(3500 * time.Millisecond)
		s.Play(topologytest.Throttled)
		time.Sleep(3 * time.Second)
		at := func(ms int64) (f struct{ Set map[string]string }) {
			w := get(p, "/frame?at="+itoa(ms))
			require.Equal(t, http.StatusOK, w.Code, w.Body.String())
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &f))
			return f
		}
		require.Equal(t, "off", at(began.Add(2 * time.Second).UnixMilli()).Set["f.active"])
		require.Equal(t, "active", at(began.Add(5 * time.Second).UnixMilli()).Set["f.active"])
		time.Sleep(10 * time.Second)
		require.Equal(t, http.StatusNotFound, get(p, "/frame?at="+itoa(began.UnixMilli())).Code, "it is forgotten")
	})
}

// A graph of ten thousand nodes takes a tenth of a second to look at. Nobody
// pays for that while nobody watches, and who begins to watch sees the present.
func TestAPageThatNobodyWatchesRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken, takes atomic.Int64
		takes.Store(int64(100 * time.Millisecond))
		src := topology.SourceFunc(func() *topology.Graph {
			time.Sleep(time.Duration(takes.Load()))
			taken.Add(1)
			return &topology.Graph{Nodes: []topology.Node{{ID: "a"}}}
		})
		client := pipeServer(t, newPage(t, src, page.Config{}), func(*http.Server) {})
		looks := func() int64 { return taken.Load() }
		time.Sleep(10 * time.Minute)
		require.InDelta(t, 15, looks(), 1, "a quarter of a percent of the time")

		before := looks()
		response, err := client.Get("http://pipe/events")
		require.NoError(t, err)
		stream := bufio.NewReader(response.Body)
		readFrame(t, stream)
		require.Greater(t, looks(), before, "the first frame is of now")
		before = looks()
		for range 10 {
			readFrame(t, stream)
		}
		require.InDelta(t, 10, looks()-before, 1, "one each interval")
		takes.Store(int64(time.Second))
		readFrame(t, stream)
		began := time.Now()
		for range 5 {
			line, err := stream.ReadString('\n')
			require.NoError(t, err)
			for line != "event: pause\n" {
				line, err = stream.ReadString('\n')
				require.NoError(t, err)
			}
		}
		require.InDelta(t, 10, time.Since(began).Seconds(), 2.1, "the reader hears that nothing is lost")
		readFrame(t, stream)
		began = time.Now()
		for range 10 {
			readFrame(t, stream)
		}
		require.InDelta(t, 100, time.Since(began).Seconds(), 15, "a tenth of the time")
		takes.Store(int64(100 * time.Millisecond))
		response.Body.Close()
		time.Sleep(10 * time.Second)
		before = looks()
		time.Sleep(10 * time.Minute)
		require.InDelta(t, 15, looks()-before, 1)
	})
}

// Whoever asks while a sample is taken gets that one, and no other is taken for it.
func TestReadersShareASample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken atomic.Int64
		p := newPage(t, topology.SourceFunc(func() *topology.Graph {
			time.Sleep(time.Second)
			taken.Add(1)
			return &topology.Graph{}
		}), page.Config{})
		time.Sleep(time.Minute)
		before := taken.Load()
		for range 3 {
			go get(p, "/topology.json")
			time.Sleep(300 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		require.Equal(t, before+1, taken.Load())
	})
}

func TestANewNodeIsANewRevision(t *testing.T) {
	s := topologytest.NewScript()
	p := newPage(t, s, page.Config{Interval: time.Hour})
	rev := func(p *page.Page) string {
		var f struct{ Rev string }
		require.NoError(t, json.Unmarshal(get(p, "/frame").Body.Bytes(), &f))
		return f.Rev
	}
	before := rev(p)
	s.Play(topologytest.Throttled)
	require.Equal(t, before, rev(newPage(t, s, page.Config{})), "figures are no revision")
	s.Add(topology.Node{ID: "another"})
	require.NotEqual(t, before, rev(newPage(t, s, page.Config{})))
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
