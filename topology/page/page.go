package page

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/internal/text"
)

// Config configures the live page. A zero field is its default.
type Config struct {
	// Title is the page's heading. Default: the graph's name.
	Title string
	// Interval is the time between two samples. Default 1 s. While no browser watches,
	// sampling a large graph rests until it takes a quarter of a percent of the time,
	// and while one does a tenth.
	Interval time.Duration
	// History is how far one can look back. Default 10 min, at most 3600 samples
	// and 8 MiB. BenchmarkSample says what a sample costs.
	History time.Duration
	// MaxStreams bounds the browsers that are kept up to date at once; further
	// ones get 503 and try again. Default 64. Negative: no bound.
	MaxStreams int
}

// Page is the live page, an [http.Handler]. Beside the page itself it serves the
// exports: topology.json, .svg, .mmd, .dot, .txt and grafana.json. All its URLs
// are relative, so it works below any prefix (use [http.StripPrefix], with the
// slash at the end of the pattern). It changes nothing and answers GET and HEAD
// only; it shows all that the graph holds to every caller, so put it behind
// what guards your other operations pages.
//
// It is safe for concurrent use.
type Page struct {
	src    topology.Source
	cfg    Config
	close  sync.Once
	closed chan struct{}
	done   chan struct{}
	wanted chan struct{} // a stream or a request wants a sample
	// pausing says that the next sample is not due yet. Streams read it without
	// the lock, to say why they are silent.
	pausing atomic.Bool

	packer packer // used by the sampling alone

	// The mutex guards what follows. Drawing, compressing and writing to a
	// browser happen outside of it.
	mu      sync.Mutex
	history history
	latest  *sample
	fresh   chan struct{} // closed by the next sample
	clients map[chan struct{}]struct{}
}

// sample is one moment's graph, its frame rendered when the first browser wants
// it, once for all of them.
type sample struct {
	graph  *topology.Graph
	sparks map[string][]float32 // of the newest: nil until it is asked for
	once   sync.Once
	json   []byte
}

// New returns the live page of a graph. It samples the source at every
// interval until it is closed.
func New(src topology.Source, cfg Config) *Page {
	cfg.Interval = cmp.Or(max(cfg.Interval, 0), time.Second)
	cfg.History = cmp.Or(max(cfg.History, 0), 10*time.Minute)
	cfg.MaxStreams = cmp.Or(cfg.MaxStreams, 64)
	p := &Page{
		src: src, cfg: cfg, closed: make(chan struct{}), done: make(chan struct{}), wanted: make(chan struct{}, 1),
		history: newHistory(min(max(int(cfg.History/cfg.Interval), 2), 3600), historyBytes, max(cfg.History, 2*cfg.Interval)),
		clients: map[chan struct{}]struct{}{}, fresh: make(chan struct{}),
	}
	go p.run()
	return p
}

// Close stops the sampling and ends the streams. It is idempotent, and waits for
// the sampling to stop.
func (p *Page) Close() error {
	p.close.Do(func() { close(p.closed) })
	<-p.done
	return nil
}

// A sample of a large graph takes long, and its frame longer. While a browser
// watches, the page works for a tenth of the time at most, and otherwise
// for a quarter of a percent.
const (
	restWatched = 10
	rest        = 400
)

// run samples until the page is closed. A sample that took long is followed by a
// rest in proportion, so that the page's share of a processor is bounded whatever
// the size of the graph. The newest sample is given up when it is too old to be
// shown: the rest may be minutes, and the graph is several megabytes.
func (p *Page) run() {
	defer close(p.done)
	for !p.ended() {
		began := time.Now()
		pause := max(p.cfg.Interval, p.sample(began)) - time.Since(began)
		young := min(pause, p.young())
		if !p.wait(young) && pause > young {
			p.forget() // of ten thousand nodes it is 4 MB
			p.wait(pause - young)
		}
	}
}

func (p *Page) ended() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

// young is how old a sample may be that is shown as the present.
func (p *Page) young() time.Duration { return 2 * p.cfg.Interval }

// wait waits, and reports whether it was cut short.
func (p *Page) wait(pause time.Duration) bool {
	p.pausing.Store(true)
	defer p.pausing.Store(false)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-p.wanted:
	case <-p.closed:
	}
	return true
}

// watched reports whether a stream is open. A request for a frame or an export
// does not count: it takes the newest sample, or asks for one.
func (p *Page) watched() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.clients) > 0
}

// sample takes the present graph into the history and tells the streams. It
// returns how long after it began the next one may follow.
func (p *Page) sample(began time.Time) (pause time.Duration) {
	g := p.src.Topology().Normalize()
	g.Time = time.Now()
	p.keep(g, p.packer.pack(g))
	if !p.watched() {
		return rest * time.Since(began)
	}
	s, _ := p.newest()
	s.frame()
	p.tell()
	return restWatched * time.Since(began)
}

// keep makes the graph the newest sample and wakes the callers that wait for one. A wish
// for a sample that came while this one was taken is fulfilled by it.
func (p *Page) keep(g *topology.Graph, packed []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history.add(g, packed)
	p.latest = &sample{graph: g}
	close(p.fresh)
	p.fresh = make(chan struct{})
	select {
	case <-p.wanted: // while it was taken
	default:
	}
}

// tell wakes the streams. It never waits for one: a stream that has not written its
// last frame yet finds the newest when it has, and skips those between.
func (p *Page) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.clients {
		select {
		case c <- struct{}{}:
		default: // it is behind, and will read the newest
		}
	}
}

// forget gives the newest sample up. The next caller that wants it waits for a new one.
func (p *Page) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latest = nil
}

// want ends the rest of the sampling.
func (p *Page) want() {
	select {
	case p.wanted <- struct{}{}:
	default:
	}
}

// now returns the newest sample. Where that is old, because the page rested, it
// waits for a new one: callers that ask at once share it, so that a burst of
// requests costs one sample. After Close it takes a sample of its own.
func (p *Page) now() *sample {
	s, fresh := p.newest()
	if s != nil && time.Since(s.graph.Time) < p.young() {
		return s
	}
	for {
		p.want()
		select {
		case <-fresh:
		case <-p.done:
			return &sample{graph: p.src.Topology().Normalize()}
		}
		if s, fresh = p.newest(); s != nil {
			return s
		}
	}
}

// newest returns the newest sample, nil where there is none, and what the next
// one closes.
func (p *Page) newest() (s *sample, fresh <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s = p.latest; s != nil && s.sparks == nil {
		s.sparks = p.history.sparks(len(p.history.moments) - 1)
	}
	return s, p.fresh
}

// then returns the sample at a time in milliseconds since 1970, the newest for "".
// A time between two samples is the earlier one; a time before the history begins
// is an error. The graph is unpacked outside the lock: it takes milliseconds.
func (p *Page) then(ms string) (*sample, error) {
	if ms == "" {
		return p.now(), nil
	}
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return nil, &topology.Error{Field: "at", Text: "is not a time in milliseconds"}
	}
	p.mu.Lock()
	place := p.history.find(time.UnixMilli(n).Add(time.Millisecond - 1))
	if place < 0 {
		p.mu.Unlock()
		return nil, &topology.Error{Field: "at", Text: "is before the history begins"}
	}
	packed, sparks := p.history.moments[place].packed, p.history.sparks(place)
	p.mu.Unlock()
	g, err := unpack(packed)
	if err != nil {
		return nil, err
	}
	return &sample{graph: g, sparks: sparks}, nil
}

// frame is what a stream carries.
type frame struct {
	T      int64             `json:"t"`
	Rev    string            `json:"rev"`
	Load   float64           `json:"load"`
	Active bool              `json:"active"`
	Clock  string            `json:"clock"`
	Set    map[string]string `json:"set"`
}

// frame returns the values of the sample as JSON, made once however many streams
// send it.
func (s *sample) frame() []byte {
	s.once.Do(func() {
		g := s.graph
		b, err := json.Marshal(frame{
			g.Time.UnixMilli(), revision(g), g.Pipeline.Load, g.Pipeline.Active, clock(g.Time), newValues(g, s.sparks),
		})
		if err != nil {
			panic("page: a frame does not marshal: " + err.Error())
		}
		s.json = b
	})
	return s.json
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// ServeHTTP serves the page, its stream and the exports.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "this page changes nothing: GET and HEAD only", http.StatusMethodNotAllowed)
		return
	}
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch {
	case r.URL.Path == "": // the prefix itself: without the slash no relative URL works
		before, _, _ := strings.Cut(r.RequestURI, "?")
		h.Set("Location", "./"+path.Base(before)+"/")
		w.WriteHeader(http.StatusMovedPermanently)
	case name == "" && strings.Contains(r.Header.Get("Accept"), "application/json"):
		p.export(w, "application/json", writeJSON)
	case name == "":
		p.page(w)
	case name == "events":
		p.events(w, r)
	case name == "frame", name == "view":
		p.part(w, r, name)
	default:
		e, ok := exports[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		p.export(w, e.mediaType, e.write)
	}
}

// export serves a graph in one form. The policy lets a browser that opens the file
// neither run a script in it nor load anything: its texts come from other teams.
func (p *Page) export(w http.ResponseWriter, mediaType string, write exporter) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	_ = write(w, p.now().graph) // the reader went away
}

// page renders the whole page, with the graph in it: it reads without a script.
// It is rendered in full before the first byte is written, so that an error has a
// status of its own. The nonce lets the page's one script and style run and no other.
func (p *Page) page(w http.ResponseWriter) {
	s, nonce := p.now(), rand.Text()
	title := cmp.Or(p.cfg.Title, s.graph.Name, "pipeline")
	var b bytes.Buffer
	err := pageTemplate().ExecuteTemplate(&b, "page", map[string]any{
		"Title": text.Line(title), "Nonce": nonce, "Rev": revision(s.graph), "Clock": clock(s.graph.Time),
		"Recover": text.Percent(s.graph.Pipeline.Recover), "Activate": text.Percent(s.graph.Pipeline.Activate),
		"View": newView(s.graph, s.sparks),
	})
	if err != nil {
		http.Error(w, "page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; "+
		"script-src 'nonce-%s'; style-src 'nonce-%s'; connect-src 'self'; img-src data:; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'self'", nonce, nonce))
	_, _ = w.Write(b.Bytes())
}

// part serves a moment's values, or its markup.
func (p *Page) part(w http.ResponseWriter, r *http.Request, name string) {
	s, err := p.then(r.URL.Query().Get("at"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if name == "frame" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(s.frame())
		return
	}
	var b bytes.Buffer
	if err := pageTemplate().ExecuteTemplate(&b, "view", newView(s.graph, s.sparks)); err != nil {
		http.Error(w, "page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}
