package page

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/internal/text"
)

//go:embed page.html
var pageText string

var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Parse(pageText))
})

// graphCSS is the drawing's style, for SVG that stands alone.
var graphCSS = sync.OnceValue(func() string {
	var b bytes.Buffer
	if err := pageTemplate().ExecuteTemplate(&b, "graph.css", nil); err != nil {
		panic("page: the embedded template does not execute: " + err.Error())
	}
	return strings.TrimSpace(b.String())
})

// view is what the page shows of one graph. set holds every value that changes,
// by the key that the markup binds.
type view struct {
	Figures            []figure
	Cause, CauseClass  string
	Wide, Narrow       template.HTML
	Notes              []note
	NodeHead, EdgeHead []string
	NodeRows, EdgeRows []row
	set                map[string]string
}

type figure struct{ Name, Key, Value, Class string }

type note struct{ Class, Bold, Text string }

// MarshalJSON writes a note as the page's script reads it.
func (n note) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"c": n.Class, "b": n.Bold, "t": " " + n.Text})
}

type row struct {
	N     int
	Cells []cell
}

type cell struct {
	Text, Key string
	Head      bool
}

// newView renders a normalized graph.
func newView(g *topology.Graph, sparks map[string][]float32) *view { return render(g, sparks, false) }

// newValues are the values that a rendered graph binds, for a page that has the
// markup already.
func newValues(g *topology.Graph, sparks map[string][]float32) map[string]string {
	return render(g, sparks, true).set
}

// render makes the view. With values alone it fills set and writes no markup: that
// is what a stream sends at each interval.
func render(g *topology.Graph, sparks map[string][]float32, values bool) *view {
	const keys = 64 // of a node with its edge, about
	v := &view{set: make(map[string]string, keys*len(g.Nodes))}
	draw := func(narrow bool, prefix string) template.HTML {
		w := &svgWriter{live: true, values: values, prefix: prefix, set: v.set}
		newScene(g, narrow).draw(w, "", sparks)
		return template.HTML(w.String()) // every text went through escape
	}
	v.Wide, v.Narrow = draw(false, "w"), draw(true, "v")
	v.figures(g)
	v.Cause, v.CauseClass = "Nothing is held up.", "why off"
	if len(g.Nodes) == 0 {
		v.Cause = "No component has registered yet."
	}
	if said := heldUp(g); said != "" {
		v.Cause, v.CauseClass = text.Line(said)+".", "why on"
	}
	v.set["cause"], v.set["cause.class"] = v.Cause, v.CauseClass
	v.notes(g)
	v.tables(g)
	return v
}

// heldUp says in a sentence what holds the pipeline up: what is down comes
// before what is slow.
func heldUp(g *topology.Graph) string {
	var down []string
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Health == topology.HealthDown {
			down = append(down, text.Brief(n.Title())+" is down (last heard of "+ago(g.Time, n.LastHeartbeat)+")")
		}
	}
	switch {
	case len(down) > 3:
		return fmt.Sprintf("%d components are down: %s and %d more", len(down), strings.Join(down[:3], ", "), len(down)-3)
	case len(down) > 0:
		return text.Join(down)
	case g.Bottleneck != nil:
		return g.Bottleneck.Sentence
	default:
		return ""
	}
}

// pill says backpressure in words.
func pill(g *topology.Graph) (word, class string) {
	p := &g.Pipeline
	switch {
	case p.Active && p.Load < p.Recover:
		return "recovering", "pill easing"
	case p.Active:
		return "active", "pill on"
	case p.Fraction > 0 && p.Fraction < 0.995:
		return "easing off", "pill easing"
	default:
		return "off", "pill"
	}
}

// latency says where it comes from: a sum leaves out the time between components.
func latency(p *topology.Pipeline) string {
	switch {
	case p.Latency <= 0:
		return span(0)
	case p.LatencyMeasured:
		return span(p.Latency) + " measured"
	default:
		return span(p.Latency) + " summed"
	}
}

// figures are the row above the drawing. Each comes from the graph's pipeline, which
// the report of package monitor reads, too: the page computes none of its own.
func (v *view) figures(g *topology.Graph) {
	p := &g.Pipeline
	healthy, counted := 0, 0
	for i := range g.Nodes {
		if g.Nodes[i].Kind != topology.KindControl {
			counted++
			if g.Nodes[i].Health == topology.HealthHealthy {
				healthy++
			}
		}
	}
	fraction := p.Fraction
	if fraction <= 0 || fraction > 1 {
		fraction = 1
	}
	word, class := pill(g)
	v.Figures = []figure{
		{"Throughput", "f.rate", perSecond(p.Throughput), ""},
		{"Latency", "f.latency", latency(p), ""},
		{"Load", "f.load", text.Percent(p.Load), ""},
		{"Admitted", "f.fraction", text.Percent(fraction), ""},
		{"Backpressure", "f.active", word, class},
		{"Activations", "f.count", strconv.FormatUint(p.Activations, 10), ""},
		{"Healthy", "f.healthy", fmt.Sprintf("%d of %d", healthy, counted), ""},
	}
	for _, f := range v.Figures {
		v.set[f.Key] = f.Value
		if f.Class != "" {
			v.set[f.Key+".class"] = f.Class
		}
	}
}

// notes lists the alerts that were set on the graph, then what is odd about it.
func (v *view) notes(g *topology.Graph) {
	v.Notes = []note{}
	for _, a := range g.Alerts {
		class := "warning"
		if a.Severity == "critical" || a.Severity == "info" {
			class = a.Severity
		}
		said := a.Summary
		if a.Node != "" && !strings.Contains(said, a.Node) {
			said = a.Node + ": " + said
		}
		if !a.Since.IsZero() {
			said += " (since " + a.Since.UTC().Format("15:04:05") + " UTC)"
		}
		v.Notes = append(v.Notes, note{class, text.Line(a.Name), text.Line(said)})
	}
	for _, p := range g.Problems {
		v.Notes = append(v.Notes, note{"problem", "Graph", text.Line(p.Text) + "."})
	}
	list, err := json.Marshal(v.Notes)
	if err != nil {
		panic("page: notes do not marshal: " + err.Error())
	}
	v.set["notes"] = string(list)
}

// rateInto is what a node takes in. A source takes nothing in, so it has no rate.
func rateInto(n *topology.Node) string {
	if n.InRate == 0 && n.Kind == topology.KindSource {
		return "–"
	}
	return perSecond(n.InRate)
}

// tables hold every figure of the drawing as text, for readers of screens and for
// those who search: nothing is told by colour or place alone.
func (v *view) tables(g *topology.Graph) {
	v.NodeHead = []string{
		"Component", "Kind", "Health", "Load", "In flight", "Limit", "Queue", "In", "Out", "Errors",
		"Gate", "Latency", "Heartbeat", "Version", "Endpoint",
	}
	for _, i := range byStage(g) {
		n, key := &g.Nodes[i], "t"+strconv.Itoa(i)+"."
		v.NodeRows = append(v.NodeRows, row{i, []cell{
			{Text: text.Fit(n.Title(), 40), Head: true},
			{Text: strings.ToLower(string(n.Kind))},
			v.live(key+"h", string(n.Health)),
			v.live(key+"l", text.Percent(n.Load)),
			v.live(key+"i", strconv.FormatInt(n.InFlight, 10)),
			v.live(key+"m", strconv.FormatInt(n.MaxInFlight, 10)),
			v.live(key+"q", queueOf(n)),
			v.live(key+"r", rateInto(n)),
			v.live(key+"o", perSecond(n.OutRate)),
			v.live(key+"e", errorsOf(n)),
			v.live(key+"g", strings.TrimPrefix(gateWord(n), "gate ")),
			v.live(key+"d", span(n.Latency)),
			v.live(key+"b", ago(g.Time, n.LastHeartbeat)),
			{Text: text.Fit(n.Version, 20)},
			{Text: text.Fit(n.Endpoint, 40)},
		}})
	}
	v.EdgeHead = []string{
		"From", "To", "State", "Known", "Rate", "Bytes", "Blocked", "Latency", "Reconnects", "Connected",
		"Pool", "Carries", "Endpoint",
	}
	for i := range g.Edges {
		e, key := &g.Edges[i], "u"+strconv.Itoa(i)+"."
		v.EdgeRows = append(v.EdgeRows, row{i, []cell{
			{Text: text.Fit(e.From, 30), Head: true},
			{Text: text.Fit(e.To, 30), Head: true},
			v.live(key+"s", string(e.State)),
			{Text: string(e.Origin)},
			v.live(key+"t", perSecond(e.Throughput)),
			v.live(key+"y", bytesPerSecond(e.ByteRate)),
			v.live(key+"k", text.Percent(e.Blocked)),
			v.live(key+"l", span(e.Latency)),
			v.live(key+"r", strconv.FormatUint(e.Reconnects, 10)),
			v.live(key+"c", connectedAgo(g, e)),
			v.live(key+"p", poolOf(e.Pool)),
			{Text: text.Fit(strings.Join(e.EventTypes, ", "), 40)},
			{Text: text.Fit(e.Endpoint, 40)},
		}})
	}
}

// byStage orders the nodes' numbers as they stand in the drawing. What is not
// drawn comes last.
func byStage(g *topology.Graph) []int {
	l := newLayout(g)
	order := make([]int, 0, len(g.Nodes))
	for _, layer := range l.layers {
		for _, s := range layer {
			if s.node >= 0 {
				order = append(order, s.node)
			}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(l.band[a], l.band[b]) })
	for n, at := range l.layer {
		if at < 0 {
			order = append(order, n)
		}
	}
	return order
}

func (v *view) live(key, value string) cell {
	v.set[key] = value
	return cell{Text: value, Key: key}
}

// connectedAgo says when a connection was last up: its own last word may be old.
func connectedAgo(g *topology.Graph, e *topology.Edge) string {
	if e.State.Up() {
		return ago(g.Time, g.Time)
	}
	return ago(g.Time, e.LastConnected)
}

// errorsOf is the rate of errors, or where only a share is known that.
func errorsOf(n *topology.Node) string {
	if n.ErrorRate > 0 {
		return perSecond(n.ErrorRate)
	}
	return text.Percent(n.ErrorRatio)
}

func poolOf(p *topology.Pool) string {
	if p == nil || p.Total == 0 {
		return "–"
	}
	said := fmt.Sprintf("%d of %d up", p.Healthy, p.Total)
	if p.Waiters > 0 {
		said += fmt.Sprintf(", %d waiting", p.Waiters)
	}
	return said
}

// revision names what the markup of a view holds besides what is in set: a page
// with another revision fetches the markup again. What render writes outside of
// slots and bounds must be part of it, or a page shows it stale. Texts are quoted
// before they are hashed, so that no two lists read alike.
func revision(g *topology.Graph) string {
	h := fnv.New64a()
	part := func(list ...string) {
		for _, s := range list {
			h.Write([]byte(strconv.Quote(s)))
		}
	}
	part(g.Name, fmt.Sprint(g.Pipeline.Activate, g.Pipeline.Recover))
	for i := range g.Nodes {
		n := &g.Nodes[i]
		part("node", n.ID, n.Name, string(n.Kind), n.Version, n.Endpoint)
	}
	for i := range g.Edges {
		e := &g.Edges[i]
		part("edge", e.From, e.To, string(e.Origin), e.Endpoint)
		part(e.EventTypes...)
	}
	return strconv.FormatUint(h.Sum64(), 36)
}
