package server

import (
	"math"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/topology"
)

// What the accounting takes for a map entry, an edge and a component beyond
// their text. It bounds memory, and need not be exact: an entry's own fields are
// about 600 bytes.
const (
	entryOverhead     = 64
	edgeSize          = 160
	componentOverhead = 1024
)

// sizeOf is what a component counts towards Limits.Bytes.
func sizeOf(c *controlplane.Component) int {
	n := componentOverhead
	for _, text := range [...]string{c.ID, c.Name, c.Description, c.Version, c.Endpoint, c.HealthEndpoint} {
		n += len(text)
	}
	for _, list := range [...][]string{c.InputEventTypes, c.OutputEventTypes, c.Upstreams} {
		for _, text := range list {
			n += len(text) + entryOverhead
		}
	}
	for key, value := range c.Metadata {
		n += len(key) + len(value) + entryOverhead
	}
	return n
}

// checkComponent judges everything that a registration says. All of it comes from
// outside, is kept, and is shown in logs, pages and terminals: so ids are
// printable, text has no control characters, and nothing is longer than its limit.
func (l Limits) checkComponent(c *controlplane.Component) error {
	if err := backpressure.CheckID(c.ID); err != nil {
		return &rejection{reason: Invalid, text: "component id", cause: err}
	}
	for _, field := range [...]struct{ name, text string }{
		{"name", c.Name},
		{"description", c.Description},
		{"version", c.Version},
		{"endpoint", c.Endpoint},
		{"health endpoint", c.HealthEndpoint},
	} {
		if err := l.checkText(field.name, field.text); err != nil {
			return err
		}
	}
	for _, field := range [...]struct {
		name string
		list []string
	}{
		{"input event types", c.InputEventTypes},
		{"output event types", c.OutputEventTypes},
		{"upstreams", c.Upstreams},
	} {
		if len(field.list) > l.Entries {
			return reject(TooMany, "%d %s, at most %d are taken", len(field.list), field.name, l.Entries)
		}
		for _, text := range field.list {
			if err := l.checkText(field.name, text); err != nil {
				return err
			}
		}
	}
	for _, id := range c.Upstreams {
		if err := backpressure.CheckID(id); err != nil {
			return &rejection{reason: Invalid, text: "upstreams", cause: err}
		}
	}
	if c.MaxInFlight < 0 {
		return reject(Invalid, "max in flight is %d, want 0 or more", c.MaxInFlight)
	}
	if len(c.Metadata) > l.Entries {
		return reject(TooMany, "%d metadata entries, at most %d are taken", len(c.Metadata), l.Entries)
	}
	for key, value := range c.Metadata {
		if err := l.checkText("metadata key", key); err != nil {
			return err
		}
		if err := l.checkText("metadata "+strconv.Quote(key), value); err != nil {
			return err
		}
	}
	return nil
}

func sizeOfEdges(edges []topology.Edge) (n int) {
	for i := range edges {
		n += len(edges[i].From) + len(edges[i].Endpoint) + edgeSize
	}
	return n
}

// checkEdges judges what a component says of its connections. An upstream need not be
// registered: it may come later, and an edge from nowhere shows that it is missing.
// Comparisons are written so that NaN fails them.
func (l Limits) checkEdges(edges []topology.Edge) error {
	for i := range edges {
		e := &edges[i]
		if e.From != "" {
			if err := backpressure.CheckID(e.From); err != nil {
				return &rejection{reason: Invalid, text: "edge", cause: err}
			}
		}
		if err := l.checkText("edge endpoint", e.Endpoint); err != nil {
			return err
		}
		for _, number := range [...]struct {
			name string
			v    float64
			most float64
		}{
			{"throughput", e.Throughput, math.MaxFloat64},
			{"byte rate", e.ByteRate, math.MaxFloat64},
			{"blocked", e.Blocked, 1},
			{"latency", float64(e.Latency), math.MaxFloat64},
		} {
			if !(number.v >= 0 && number.v <= number.most) {
				return reject(Invalid, "edge %s is %v, want 0 to %v", number.name, number.v, number.most)
			}
		}
	}
	return nil
}

// checkMetrics looks at names and values; what a number means is judged by what
// reads it. It returns how many bytes the new ones add. Names are those of another
// team's component and become keys here, never labels of a metric.
func (l Limits) checkMetrics(known, add map[string]float64) (grown int, err error) {
	fresh := 0
	for name, v := range add {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, reject(Invalid, "metric %q is %v, want a number", name[:min(len(name), 64)], v)
		}
		if _, ok := known[name]; ok {
			continue
		}
		if err := l.checkText("metric name", name); err != nil {
			return 0, err
		}
		fresh++
		grown += len(name) + entryOverhead
	}
	if n := len(known) + fresh; n > l.Metrics {
		return 0, reject(TooMany, "%d metrics, at most %d are kept of a component", n, l.Metrics)
	}
	return grown, nil
}

// checkText does not quote what is too long or no UTF-8: hostile text must not
// fill an error, which is logged and sent back.
func (l Limits) checkText(field, text string) error {
	if len(text) > l.Text {
		return reject(Invalid, "%s of %d bytes, want at most %d", field, len(text), l.Text)
	}
	if !utf8.ValidString(text) {
		return reject(Invalid, "%s is not UTF-8", field)
	}
	for _, r := range text {
		if unicode.IsControl(r) {
			return reject(Invalid, "%s %q has a control character", field, text[:min(len(text), 64)])
		}
	}
	return nil
}
