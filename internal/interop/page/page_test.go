package page

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/page"
	"github.com/withobsrvr/sluice/topology/topologytest"
)

// prefix is where the page is mounted: everything on it has to be relative.
const prefix = "/ops/topology/"

func serve(t *testing.T, src topology.Source) (server *httptest.Server, address string) {
	t.Helper()
	live := page.New(src, page.Config{Interval: 200 * time.Millisecond})
	mux := http.NewServeMux()
	mux.Handle(prefix, http.StripPrefix(prefix, slashed(live)))
	server = httptest.NewServer(mux)
	t.Cleanup(func() {
		require.NoError(t, live.Close())
		server.Close()
	})
	return server, server.URL + prefix
}

// slashed gives the slash back that StripPrefix took.
func slashed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/" + r.URL.Path
		h.ServeHTTP(w, r)
	})
}

func TestEveryLookAtEveryScene(t *testing.T) {
	browser := startBrowser(t)
	for _, l := range looks {
		t.Run(l.name, func(t *testing.T) {
			script := topologytest.NewScript()
			_, address := serve(t, script)
			p := open(t, browser, address, l)
			for _, scene := range []topologytest.Scene{
				topologytest.Calm, topologytest.Busy, topologytest.Throttled, topologytest.Recovering, topologytest.Killed,
			} {
				script.Play(scene)
				before := p.text(`document.documentElement.dataset.frame`)
				p.wait(`document.documentElement.dataset.frame > ` + before + ` + 400`)
				p.picture("page-" + l.name + "-" + string(scene))
				require.Empty(t, p.problems(), "%v, %s", l, scene)
			}
			p.clean(address)
		})
	}
}

func TestBackpressureComesAndGoes(t *testing.T) {
	browser := startBrowser(t)
	script := topologytest.NewScript()
	_, address := serve(t, script)
	p := open(t, browser, address, looks[0])
	p.wait(`/off|open|inactive|none/i.test(document.querySelector(".pill").textContent)`)
	script.Play(topologytest.Throttled)
	p.wait(`document.querySelector(".pill").classList.contains("on")`)
	p.wait(`/arrow-analytics-sink is the bottleneck/.test(document.querySelector(".why").textContent)`)
	script.Play(topologytest.Calm)
	p.wait(`!document.querySelector(".pill").classList.contains("on")`)
	p.clean(address)
}

func TestKilledComponentGoesGrey(t *testing.T) {
	browser := startBrowser(t)
	script := topologytest.NewScript()
	_, address := serve(t, script)
	p := open(t, browser, address, looks[0])
	p.wait(`!document.querySelector("svg.wide .node.gone")`)
	script.Play(topologytest.Killed)
	p.wait(
		`[...document.querySelectorAll("svg.wide .node.gone")].some(n => n.textContent.includes("ttp-arrow-processor"))`,
	)
	script.Play(topologytest.Calm)
	p.wait(`!document.querySelector("svg.wide .node.gone")`)
	p.clean(address)
}

func TestHostileNamesStayText(t *testing.T) {
	browser := startBrowser(t)
	hostile := topologytest.Hostile(topologytest.HostileIDs...).Normalize()
	_, address := serve(t, topology.SourceFunc(func() *topology.Graph { return hostile }))
	for _, l := range looks {
		p := open(t, browser, address, l)
		p.wait(`!document.querySelector("#view script, #view b.bold, #view img")`)
		p.clean(address)
	}
}

func TestLooksBackAndReturns(t *testing.T) {
	browser := startBrowser(t)
	script := topologytest.NewScript()
	_, address := serve(t, script)
	p := open(t, browser, address, looks[0])
	script.Play(topologytest.Throttled)
	p.wait(`document.querySelector(".pill").classList.contains("on")`)
	script.Play(topologytest.Calm)
	p.wait(`!document.querySelector(".pill").classList.contains("on") && +document.querySelector("#when").max > 12`)
	p.do(`(e => { e.value = 0; e.dispatchEvent(new Event("input")) })(document.querySelector("#when"))`)
	p.wait(`/ago/.test(document.querySelector("#at").textContent) && !document.querySelector("#now").hidden`)
	p.do(`document.querySelector("#now").click()`)
	p.wait(`document.querySelector("#at").textContent === "live"`)
	p.clean(address)
}

func TestKeyboardAndReducedMotion(t *testing.T) {
	browser := startBrowser(t)
	_, address := serve(t, topologytest.NewScript())
	p := open(t, browser, address, looks[0], &emulation.MediaFeature{Name: "prefers-reduced-motion", Value: "reduce"})
	p.wait(`[...document.querySelectorAll(".dash")].every(e => getComputedStyle(e).animationName === "none")`)
	p.do(`document.querySelector("svg.wide .node").focus()`)
	require.NoError(t, chromedp.Do(p.ctx, chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(kb.Enter)))
	p.wait(
		`document.querySelectorAll("svg.wide .node.sel").length === 1 && document.querySelectorAll("tr.sel").length === 1`,
	)
	p.clean(address)
}

// TestTheStreamComesBack: a browser gives an event stream up for good after any
// answer that is not 200, so the page itself tries again.
func TestTheStreamComesBack(t *testing.T) {
	browser := startBrowser(t)
	script := topologytest.NewScript()
	live := page.New(script, page.Config{Interval: 200 * time.Millisecond})
	var reject atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if reject.Load() {
			http.Error(w, "restarting", http.StatusBadGateway)
			return
		}
		live.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		live.Close() // which ends the streams that the browser has open
		server.CloseClientConnections()
		server.Close()
	})
	p := open(t, browser, server.URL+"/", looks[0])
	reject.Store(true)
	server.CloseClientConnections()
	p.wait(`!document.querySelector("#stale").hidden`)
	script.Play(topologytest.Throttled)
	reject.Store(false)
	p.wait(`document.querySelector("#stale").hidden && document.querySelector(".pill").classList.contains("on")`)
}

func TestLostServerIsSaid(t *testing.T) {
	browser := startBrowser(t)
	server, address := serve(t, topologytest.NewScript())
	p := open(t, browser, address, looks[0])
	server.CloseClientConnections()
	server.Listener.Close()
	p.wait(`!document.querySelector("#stale").hidden`)
	require.Contains(t, p.text(`document.querySelector("#stale").textContent`), "No news")
	require.Empty(t, p.problems())
	p.picture("page-lost")
}
