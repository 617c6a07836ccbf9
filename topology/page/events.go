package page

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// keepAlive is how often a silent stream says something: that there is no news
	// to come yet, so that the page knows, and else a comment, so that proxies keep
	// the stream and a dead reader is noticed.
	keepAlive = 2 * time.Second
	// writeWait bounds one write, in place of the server's WriteTimeout, which
	// is absolute and would cut every stream.
	writeWait = 10 * time.Second
)

// events is the stream of a browser: the past once, then a frame each interval.
// Latest value: a reader that falls behind gets the newest frame and misses
// those between.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	changed := make(chan struct{}, 1)
	p.mu.Lock()
	full := p.cfg.MaxStreams > 0 && len(p.clients) >= p.cfg.MaxStreams
	if !full {
		p.clients[changed] = struct{}{}
	}
	p.mu.Unlock()
	if full {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many browsers are watching", http.StatusServiceUnavailable)
		return
	}
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.clients, changed)
	}()

	p.want()
	control := http.NewResponseController(w)
	send := func(format string, args ...any) bool {
		// A wrapper without Unwrap cannot set deadlines: then the server's
		// timeout ends the stream, and the browser comes back.
		if err := control.SetWriteDeadline(time.Now().Add(writeWait)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return false
		}
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold frames back
	if !send("retry: 2000\nevent: past\ndata: %s\n\n", p.past()) || !send("event: frame\ndata: %s\n\n", p.now().frame()) {
		return
	}
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		ok := true
		select {
		case <-changed:
			ok = send("event: frame\ndata: %s\n\n", p.now().frame())
			alive.Reset(keepAlive)
		case <-alive.C:
			if p.pausing.Load() {
				ok = send("event: pause\ndata: 1\n\n")
			} else {
				ok = send(": alive\n\n")
			}
		case <-p.closed:
			return
		case <-r.Context().Done():
			return
		}
		if !ok {
			return
		}
	}
}

// past lists the history as [time, load, active] for the timeline.
func (p *Page) past() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	b.WriteByte('[')
	for i, m := range p.history.moments {
		if i > 0 {
			b.WriteByte(',')
		}
		active := 0
		if m.active {
			active = 1
		}
		fmt.Fprintf(&b, "[%d,%s,%d]", m.at.UnixMilli(), strconv.FormatFloat(m.load, 'f', 3, 64), active)
	}
	b.WriteByte(']')
	return b.String()
}
