package page

import (
	"strconv"
	"strings"

	"github.com/withobsrvr/sluice/topology/internal/text"
)

// svgWriter writes markup, and, when live, binds what changes: an element's text
// by data-s="key", its attributes by data-b="attribute:key;…". The values go
// into set, so that the page is patched by key and every figure is formatted in
// one place, here.
type svgWriter struct {
	strings.Builder
	live   bool
	values bool   // set alone is wanted: no markup is written
	prefix string // of keys: two drawings of one graph have different geometry
	set    map[string]string
}

// bound is an attribute whose value changes.
type bound struct{ attribute, key, value string }

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")

// escape makes a text safe in markup and in attributes: also the controls that
// XML does not allow at all.
func escape(s string) string {
	return escaper.Replace(strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' && r != '\n' || r == 0x7f || r == 0xfffe || r == 0xffff {
			return '\ufffd'
		}
		return r
	}, text.Valid(s)))
}

// open writes a start tag: pairs are attribute, value. An attribute must stand in
// pairs or in bounds, not in both: twice on one element it is no well-formed XML,
// and a browser stops drawing there.
func (w *svgWriter) open(name string, pairs []string, bounds ...bound) {
	if w.values {
		for _, b := range bounds {
			w.set[w.prefix+b.key] = b.value
		}
		return
	}
	w.WriteString("<" + name)
	for i := 0; i+1 < len(pairs); i += 2 {
		w.WriteString(" " + pairs[i] + `="` + escape(pairs[i+1]) + `"`)
	}
	var bind []string
	for _, b := range bounds {
		w.WriteString(" " + b.attribute + `="` + escape(b.value) + `"`)
		if w.live {
			w.set[w.prefix+b.key] = b.value
			bind = append(bind, b.attribute+":"+w.prefix+b.key)
		}
	}
	if len(bind) > 0 {
		w.WriteString(` data-b="` + strings.Join(bind, ";") + `"`)
	}
	w.WriteByte('>')
}

func (w *svgWriter) end(name string) {
	if !w.values {
		w.WriteString("</" + name + ">")
	}
}

// element writes an element without content.
func (w *svgWriter) element(name string, pairs []string, bounds ...bound) {
	w.open(name, pairs, bounds...)
	w.end(name)
}

// text writes an element whose text never changes.
func (w *svgWriter) text(name string, pairs []string, s string) {
	if w.values {
		return
	}
	w.open(name, pairs)
	w.WriteString(escape(s))
	w.end(name)
}

// slot writes an element whose text changes. Everything goes through escape, keys
// included, though they are numbers of ours.
func (w *svgWriter) slot(name string, pairs []string, key, s string, bounds ...bound) {
	if w.live {
		w.set[w.prefix+key] = s
	}
	if w.values {
		w.open(name, nil, bounds...)
		return
	}
	if w.live {
		pairs = append(pairs, "data-s", w.prefix+key)
	}
	w.open(name, pairs, bounds...)
	w.WriteString(escape(s))
	w.end(name)
}

func at(x, y float64, class string) []string {
	return []string{"class", class, "x", num(x), "y", num(y)}
}

func num(v float64) string { return strconv.FormatFloat(round(v), 'f', -1, 64) }

// corners is a line through points, the corners rounded a little.
func corners(points ...point) string {
	var b strings.Builder
	b.WriteString("M" + num(points[0].x) + " " + num(points[0].y))
	for i := 1; i < len(points); i++ {
		p := points[i]
		if i+1 == len(points) {
			b.WriteString("L" + num(p.x) + " " + num(p.y))
			break
		}
		in, out := toward(p, points[i-1]), toward(p, points[i+1])
		b.WriteString("L" + num(in.x) + " " + num(in.y) + "Q" + num(p.x) + " " + num(p.y) + " " + num(out.x) + " " +
			num(out.y))
	}
	return b.String()
}

// toward is the point 6 units from p on the (upright or level) way to q.
func toward(p, q point) point {
	const r = 6
	step := func(a, b float64) float64 { return a + max(-r, min(r, (b-a)/2)) }
	return point{step(p.x, q.x), step(p.y, q.y)}
}

// curve joins points by curves that leave and arrive level.
func curve(points []point) string {
	var b strings.Builder
	b.WriteString("M" + num(points[0].x) + " " + num(points[0].y))
	for i := 1; i < len(points); i++ {
		p, q := points[i-1], points[i]
		if p.y == q.y {
			b.WriteString("L" + num(q.x) + " " + num(q.y))
			continue
		}
		mid := num((p.x + q.x) / 2)
		b.WriteString("C" + mid + " " + num(p.y) + " " + mid + " " + num(q.y) + " " + num(q.x) + " " + num(q.y))
	}
	return b.String()
}
