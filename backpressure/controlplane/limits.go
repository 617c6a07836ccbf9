package controlplane

import (
	"cmp"
	"math"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/withobsrvr/sluice/backpressure"
)

// Limits bound what callers can make a [Server] remember. A zero field is its
// default.
type Limits struct {
	// Components in all. Default 16,384.
	Components int
	// ComponentsPerPeer: components that one connection may register. Default 256.
	ComponentsPerPeer int
	// Metrics that are kept of one component. Default 256.
	Metrics int
	// Entries of a component's event types, upstreams and metadata, each.
	// Default 64.
	Entries int
	// Text: bytes of one name, key or value from outside. Default 1,024.
	Text int
	// Edges that are kept of one component. Default 64.
	Edges int
	// Bytes of text in all, about. Default 128 MiB.
	Bytes int
}

// What the accounting takes for a map entry, an edge and a component beyond
// their text.
const (
	entryOverhead     = 64
	edgeSize          = 160
	componentOverhead = 1024
)

func sizeOf(c *Component) int {
	n := componentOverhead + len(c.ID) + len(c.Name) + len(c.Description) + len(c.Version) + len(c.Endpoint) + len(c.HealthEndpoint)
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

func (l Limits) withDefaults() Limits {
	l.Components = cmp.Or(l.Components, backpressure.DefaultMaxServices)
	l.ComponentsPerPeer = cmp.Or(l.ComponentsPerPeer, 256)
	l.Metrics = cmp.Or(l.Metrics, 256)
	l.Entries = cmp.Or(l.Entries, 64)
	l.Text = cmp.Or(l.Text, 1024)
	l.Edges = cmp.Or(l.Edges, 64)
	l.Bytes = cmp.Or(l.Bytes, 128<<20)
	return l
}

func (l Limits) checkComponent(c *Component) *Error {
	if err := backpressure.CheckID(c.ID); err != nil {
		return &Error{Reason: Invalid, What: "component id", cause: err}
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
			return refuse(TooMany, "%d %s, at most %d are taken", len(field.list), field.name, l.Entries)
		}
		for _, text := range field.list {
			if err := l.checkText(field.name, text); err != nil {
				return err
			}
		}
	}
	for _, id := range c.Upstreams {
		if err := backpressure.CheckID(id); err != nil {
			return &Error{Reason: Invalid, What: "upstreams", cause: err}
		}
	}
	if c.MaxInFlight < 0 {
		return refuse(Invalid, "max in flight is %d, want 0 or more", c.MaxInFlight)
	}
	if len(c.Metadata) > l.Entries {
		return refuse(TooMany, "%d metadata entries, at most %d are taken", len(c.Metadata), l.Entries)
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

func (l Limits) checkEdges(edges []Edge) *Error {
	for i := range edges {
		if err := edges[i].check(l); err != nil {
			return err
		}
	}
	return nil
}

// checkMetrics looks at names and values; what a number means is judged by who
// reads it. It returns how many bytes the new ones add.
func (l Limits) checkMetrics(known metricList, add []reading) (grown int, err *Error) {
	tooMany := func(n int) *Error {
		return refuse(TooMany, "%d metrics, at most %d are kept of a component", n, l.Metrics)
	}
	if len(add) > l.Metrics {
		return 0, tooMany(len(add))
	}
	fresh := 0
	for _, r := range add {
		if math.IsNaN(r.value) || math.IsInf(r.value, 0) {
			return 0, refuse(Invalid, "metric %q is %v, want a number", r.name[:min(len(r.name), 64)], r.value)
		}
		if _, ok := known.find(r.name); ok {
			continue
		}
		if err := l.checkText("metric name", string(r.name)); err != nil {
			return 0, err
		}
		fresh++
		grown += len(r.name) + entryOverhead
	}
	if n := len(known) + fresh; n > l.Metrics {
		return 0, tooMany(n)
	}
	return grown, nil
}

func (l Limits) checkText(field, text string) *Error {
	if len(text) > l.Text {
		return refuse(Invalid, "%s of %d bytes, want at most %d", field, len(text), l.Text)
	}
	if !utf8.ValidString(text) {
		return refuse(Invalid, "%s is not UTF-8", field)
	}
	for _, r := range text {
		if unicode.IsControl(r) {
			return refuse(Invalid, "%s %q has a control character", field, text[:min(len(text), 64)])
		}
	}
	return nil
}
