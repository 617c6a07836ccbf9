package page

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/internal/text"
)

// draw writes the scene as one <svg> element. Keys are "n3.load", "e0.label": the
// graph is sorted, and a page with another set of nodes and edges is another
// revision, so numbers are enough and no id from outside becomes a key. sparks
// are the last minutes' loads by node id, nil without a history.
func (s *scene) draw(w *svgWriter, style string, sparks map[string][]float32) {
	class := "graph wide"
	if s.narrow {
		class = "graph narrow"
	}
	w.open("svg", []string{
		"xmlns", "http://www.w3.org/2000/svg", "class", class, "role", "group",
		"viewBox", "0 0 " + num(s.width) + " " + num(s.height), "width", num(s.width), "height", num(s.height),
		"aria-label", "Pipeline graph; the tables below hold the same figures",
	})
	if style != "" {
		w.WriteString("<style>" + style + "</style>")
	}
	if !w.live {
		w.element("rect", []string{"class", "ground", "width", "100%", "height", "100%"})
	}
	for e := range s.graph.Edges {
		s.line(w, e)
	}
	for n := range s.graph.Nodes {
		if s.cards[n].w > 0 {
			s.card(w, n, sparks[s.graph.Nodes[n].ID])
		}
	}
	for e := range s.graph.Edges {
		s.label(w, e)
	}
	w.end("svg")
}

// line draws an edge: its width and the speed of its dashes tell throughput,
// its colour how busy the consumer is, and a violet length, from the consumer
// backward, the share of time that it is blocked.
func (s *scene) line(w *svgWriter, e int) {
	if s.paths[e] == "" {
		return
	}
	edge, key := &s.graph.Edges[e], "e"+strconv.Itoa(e)
	to := &s.graph.Nodes[s.ix.To[e]]
	flow := 0
	if edge.Throughput > 0 && edge.State != topology.StateDown {
		flow = 1 + min(4, int(math.Log10(1+edge.Throughput)))
	}
	class := "edge " + s.busy(to) + " flow" + strconv.Itoa(flow)
	switch {
	case edge.State == topology.StateDown || to.Health.Gone():
		class = "edge dead"
	case edge.Origin != topology.OriginObserved:
		class += " guess"
	}
	if edge.Cyclic {
		class += " cyclic"
	}
	width := 2 + 1.1*math.Log10(1+edge.Throughput)
	w.open("g", nil, bound{"class", key + ".class", class})
	w.element("path", []string{"class", "base", "d", s.paths[e]},
		bound{"stroke-width", key + ".width", num(min(width, 8))})
	blocked := 100 * edge.Blocked
	w.element("path", []string{"class", "blocked", "d", s.paths[e], "pathLength", "100"},
		bound{"stroke-dasharray", key + ".blocked", "0 " + num(100-blocked) + " " + num(blocked) + " 100"},
		bound{"stroke-width", key + ".bwidth", num(min(width, 8) + 2*min(1, blocked))})
	w.element("path", []string{"class", "dash", "d", s.paths[e]})
	w.end("g")
}

func (s *scene) busy(n *topology.Node) string {
	switch {
	case n.Health.Gone():
		return "gone"
	case n.Load >= s.graph.Pipeline.Activate:
		return "hot"
	case n.Load >= s.graph.Pipeline.Recover:
		return "warm"
	default:
		return "calm"
	}
}

// labelOf says an edge in a few words.
func labelOf(e *topology.Edge) string {
	switch {
	case e.State == topology.StateDown:
		return "disconnected"
	case e.State == topology.StateConnecting:
		return "connecting"
	case e.Throughput > 0 && e.Blocked >= 0.005:
		return perSecond(e.Throughput) + " · blocked " + text.Percent(e.Blocked)
	case e.Blocked >= 0.005:
		return "blocked " + text.Percent(e.Blocked)
	case e.Throughput > 0:
		return perSecond(e.Throughput)
	case e.Origin == topology.OriginObserved:
		return "idle"
	default:
		return string(e.Origin)
	}
}

func (s *scene) label(w *svgWriter, e int) {
	box := s.labels[e]
	if box.w == 0 {
		return
	}
	edge, key := &s.graph.Edges[e], "e"+strconv.Itoa(e)
	said := labelOf(edge)
	from, to := s.graph.Nodes[s.ix.From[e]].Title(), s.graph.Nodes[s.ix.To[e]].Title()
	class := "label"
	if edge.Blocked >= topology.BlockedFrom {
		class += " blocked"
	}
	const size, boldness = 12.0, 1.08
	x, anchor := box.x+box.w/2, "middle"
	if s.narrow {
		x, anchor = box.x+8, "start"
		room := (box.w-16)/size/boldness - text.Ems(said) - text.Ems(" from ")
		if n := len(s.ix.In.Of(s.ix.To[e])); n > 1 && room > 3 {
			said += " from " + text.Fit(from, room)
		}
	}
	width := min(box.w, text.Ems(said)*size*boldness+16)
	left := box.x
	if !s.narrow {
		left = x - width/2
	}
	w.open("g", nil, bound{"class", key + ".lclass", class})
	w.text("title", nil, text.Line(from)+" to "+text.Line(to))
	w.element("rect", []string{"class", "box", "y", num(box.y), "height", num(box.h), "rx", "6"},
		bound{"x", key + ".x", num(left)}, bound{"width", key + ".w", num(width)})
	w.slot("text", append(at(x, box.y+15.5, "small"), "text-anchor", anchor), key+".label", said)
	w.end("g")
}

// card draws a node.
func (s *scene) card(w *svgWriter, n int, loads []float32) {
	node, c, key := &s.graph.Nodes[n], s.cards[n], "n"+strconv.Itoa(n)
	class := "node " + s.busy(node)
	if node.Cause {
		class += " cause"
	}
	w.open("g", []string{"tabindex", "0", "role", "img", "data-node", strconv.Itoa(n)},
		bound{"class", key + ".class", class}, bound{"aria-label", key + ".aria", s.sentence(node)})
	w.slot("title", nil, key+".title", text.Line(node.ID)+" — "+s.sentence(node))
	w.element("rect", []string{
		"class", "halo", "x", num(c.x - 5), "y", num(c.y - 5), "width", num(c.w + 10),
		"height", num(c.h + 10), "rx", "17",
	})
	w.element("rect", []string{
		"class", "card", "x", num(c.x), "y", num(c.y), "width", num(c.w), "height", num(c.h),
		"rx", "12",
	})
	left, right := c.x+16, c.x+c.w-16

	w.element("path", []string{"class", "glyph", "d", glyph(node.Kind, left+6, c.y+23)})
	w.text("text", at(left+20, c.y+28, "name"), text.Fit(node.Title(), (c.w-16-20-16)/14.5))
	kind := strings.ToLower(string(node.Kind))
	if node.Version != "" {
		kind += " · " + text.Fit(node.Version, 8)
	}
	w.text("text", at(left, c.y+47, "small muted"), text.Fit(kind, 12))
	health := string(node.Health)
	if node.Cause {
		health = "bottleneck"
	} else if node.Cyclic {
		health += " ↻"
	}
	w.slot("text", []string{"x", num(right), "y", num(c.y + 47), "text-anchor", "end"}, key+".health", health,
		bound{"class", key + ".hclass", "small h-" + healthClass(node)})

	s.ring(w, node, key, point{left + 27, c.y + 89})
	column := left + 72
	row := func(i int, name, slot, value string) {
		y := c.y + 72 + float64(i)*21
		w.text("text", at(column, y, "small muted"), name)
		w.slot("text", append(at(right, y, "small value"), "text-anchor", "end"), key+"."+slot, value)
	}
	inFlight, queued, rate := thousands(float64(node.InFlight)), queueOf(node), perSecond(rateOf(node))
	if node.MaxInFlight > 0 {
		inFlight += " / " + thousands(float64(node.MaxInFlight))
	}
	if node.Health.Gone() { // what it last said is not how it is; the table still has it
		inFlight, queued, rate = "–", "–", "–"
	}
	row(0, "in flight", "inflight", inFlight)
	row(1, "queue", "queue", queued)
	row(2, "rate", "rate", rate)
	s.queueBar(w, node, key, rect{column, c.y + 98, right - column, 2.5})
	s.gate(w, node, key, left, c.y+147)
	s.pool(w, n, key, left, c.y+161)
	s.spark(w, node, key, rect{column + 22, c.y + 128, right - column - 22, 30}, loads)
	w.end("g")
}

// rateOf is what a node puts out, or takes in where it puts out nothing.
func rateOf(n *topology.Node) float64 {
	if n.OutRate > 0 {
		return n.OutRate
	}
	return n.InRate
}

func queueOf(n *topology.Node) string {
	if n.QueueCapacity > 0 {
		return thousands(float64(n.QueueDepth)) + " / " + thousands(float64(n.QueueCapacity))
	}
	return thousands(float64(n.QueueDepth))
}

// sentence says a node in words, for those who listen and for the tooltip.
func (s *scene) sentence(n *topology.Node) string {
	if n.Health.Gone() {
		return fmt.Sprintf("%s, %s, %s, last heard of %s", text.Line(n.Title()), strings.ToLower(string(n.Kind)), n.Health,
			ago(s.graph.Time, n.LastHeartbeat))
	}
	said := fmt.Sprintf("%s, %s, %s, load %s, in flight %d of %d, queue %d, gate %s, %s",
		text.Line(n.Title()), strings.ToLower(string(n.Kind)), n.Health, text.Percent(n.Load), n.InFlight, n.MaxInFlight,
		n.QueueDepth,
		gateWord(n), perSecond(rateOf(n)))
	if n.Cause {
		said += ", the bottleneck"
	}
	return said
}

func healthClass(n *topology.Node) string {
	switch {
	case n.Cause:
		return "bad"
	case n.Health == topology.HealthHealthy:
		return "good"
	case n.Health == topology.HealthUnhealthy:
		return "bad"
	case n.Health.Gone():
		return "gone"
	default:
		return "fair"
	}
}

// ring draws the load as a ring with ticks at the two thresholds.
func (s *scene) ring(w *svgWriter, n *topology.Node, key string, c point) {
	const radius = 25.0
	around := 2 * math.Pi * radius
	circle := []string{"cx", num(c.x), "cy", num(c.y), "r", num(radius)}
	w.element("circle", append([]string{"class", "track"}, circle...))
	load := min(n.Load, 1)
	if n.Health.Gone() {
		load = 0
	}
	w.element("circle", append([]string{"class", "ring", "transform", "rotate(-90 " + num(c.x) + " " + num(c.y) + ")"},
		circle...),
		bound{"stroke-dasharray", key + ".ring", num(load*around) + " " + num(around)})
	for _, tick := range []float64{s.graph.Pipeline.Recover, s.graph.Pipeline.Activate} {
		sin, cos := math.Sincos(2*math.Pi*min(tick, 1) - math.Pi/2)
		w.element("line", []string{
			"class", "tick", "x1", num(c.x + (radius-6)*cos), "y1", num(c.y + (radius-6)*sin),
			"x2", num(c.x + (radius+5)*cos), "y2", num(c.y + (radius+5)*sin),
		})
	}
	said := strconv.Itoa(int(math.Round(100*min(n.Load, 99)))) + "%"
	if n.Health.Gone() {
		said = "–"
	}
	w.slot("text", append(at(c.x, c.y+5, "percent"), "text-anchor", "middle"), key+".load", said)
}

func (s *scene) queueBar(w *svgWriter, n *topology.Node, key string, r rect) {
	full := 0.0
	switch {
	case n.Health.Gone():
	case n.QueueCapacity > 0:
		full = min(1, float64(n.QueueDepth)/float64(n.QueueCapacity))
	case n.QueueDepth > 0: // of no known end: each factor of ten is a quarter
		full = min(1, math.Log10(1+float64(n.QueueDepth))/4)
	}
	box := []string{"x", num(r.x), "y", num(r.y), "height", num(r.h), "rx", "1"}
	w.element("rect", append([]string{"class", "trackbar", "width", num(r.w)}, box...))
	w.element("rect", append([]string{"class", "queue"}, box...), bound{"width", key + ".qbar", num(full * r.w)})
}

// gate draws the throttle: two leaves that close from both sides.
func (s *scene) gate(w *svgWriter, n *topology.Node, key string, x, y float64) {
	const width = 54.0
	open := fractionOf(n)
	leaf := num((1 - open) / 2 * width)
	w.element("rect", []string{
		"class", "gateway", "x", num(x), "y", num(y - 4), "width", num(width), "height", "4",
		"rx", "1",
	})
	w.element("rect", []string{"class", "leaf", "x", num(x), "y", num(y - 7), "height", "10", "rx", "1"},
		bound{"width", key + ".leaf", leaf})
	w.element("rect", []string{"class", "leaf", "y", num(y - 7), "height", "10", "rx", "1"},
		bound{"width", key + ".leaf2", leaf}, bound{"x", key + ".leafx", num(x + width - (1-open)/2*width)})
	w.slot("text", at(x, y-11, "tiny"), key+".gate", gateWord(n))
}

func fractionOf(n *topology.Node) float64 {
	if n.Fraction <= 0 || n.Fraction > 1 {
		return 1
	}
	return n.Fraction
}

func gateWord(n *topology.Node) string {
	switch open := fractionOf(n); {
	case n.Health.Gone():
		return "–"
	case open >= 0.995:
		return "gate open"
	case open <= 0.051:
		return "gate shut"
	default:
		return "open " + text.Percent(open)
	}
}

// pool draws the connections by which a node reads: full healthy, hollow idle,
// a cross broken, small up to the limit.
func (s *scene) pool(w *svgWriter, n int, key string, x, y float64) {
	var p topology.Pool
	for _, e := range s.ix.In.Of(n) {
		if q := s.graph.Edges[e].Pool; q != nil && s.graph.Edges[e].State != topology.StateDown {
			p.Total += q.Total
			p.Healthy += q.Healthy
			p.Idle += q.Idle
			p.Limit += q.Limit
		}
	}
	const most = 10
	shown := min(max(p.Total, p.Limit), most)
	busy, idle := max(p.Healthy-p.Idle, 0), min(p.Idle, p.Healthy)
	for i := range most {
		class := "dot"
		switch {
		case i >= shown:
			class += " none"
		case i < busy:
			class += " full"
		case i < busy+idle:
			class += " idle"
		case i < p.Total:
			class += " broken"
		default:
			class += " room"
		}
		w.element("rect", []string{"x", num(x + float64(i)*8.4), "y", num(y - 3), "width", "6", "height", "6", "rx", "3"},
			bound{"class", key + ".dot" + strconv.Itoa(i), class})
	}
	said := ""
	if p.Total > 0 {
		said = fmt.Sprintf("connections: %d healthy of %d, %d idle, limit %d", p.Healthy, p.Total, p.Idle, p.Limit)
	}
	w.slot("desc", nil, key+".pool", said)
}

// spark draws the last minutes' load, with the activation threshold as a line.
func (s *scene) spark(w *svgWriter, n *topology.Node, key string, r rect, loads []float32) {
	if loads == nil {
		return
	}
	y := func(load float64) string { return num(r.y + r.h - min(load, 1)*r.h) }
	w.element("path", []string{"class", "threshold", "d", "M" + num(r.x) + " " + y(s.graph.Pipeline.Activate) + "h" +
		num(r.w)})
	w.element("path", []string{"class", "axis", "d", "M" + num(r.x) + " " + num(r.y+r.h) + "h" + num(r.w)})
	line, area := sparkPaths(loads, r)
	w.element("path", []string{"class", "area"}, bound{"d", key + ".area", area})
	w.element("path", []string{"class", "spark"}, bound{"d", key + ".spark", line})
}

// sparkPaths spreads the samples over the width, the newest at the right.
func sparkPaths(loads []float32, r rect) (line, area string) {
	if len(loads) == 0 {
		return "M0 0", "M0 0"
	}
	step := r.w / float64(sparkSamples-1)
	first := r.x + r.w - step*float64(len(loads)-1)
	var b strings.Builder
	for i, load := range loads {
		b.WriteString("L" + num(first+float64(i)*step) + " " + num(r.y+r.h-min(float64(load), 1)*r.h))
	}
	line = "M" + b.String()[1:]
	base := num(r.y + r.h)
	return line, line + "L" + num(r.x+r.w) + " " + base + "L" + num(first) + " " + base + "Z"
}

// sparkSamples is how many samples a sparkline shows.
const sparkSamples = 90

func glyph(k topology.Kind, x, y float64) string {
	at := num(x) + " " + num(y)
	switch k {
	case topology.KindSource: // a triangle that points downstream
		return "M" + num(x-5) + " " + num(y-6) + "l10 6l-10 6Z"
	case topology.KindSink: // a square
		return "M" + num(x-5) + " " + num(y-5) + "h10v10h-10Z"
	case topology.KindProcessor: // a diamond
		return "M" + num(x) + " " + num(y-7) + "l7 7l-7 7l-7 -7Z"
	default: // a ring
		return "M" + at + "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z"
	}
}
