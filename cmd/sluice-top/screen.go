package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/withobsrvr/sluice/topology"
)

// A screen prints the table. Each print is one write: a terminal never shows half
// of one.
type screen struct {
	to      io.Writer
	colors  bool
	address string
	prefix  string
	lost    error // why the graph is old
}

var columns = []struct {
	title string
	right bool
}{
	{"COMPONENT", false},
	{"TYPE", false},
	{"HEALTH", false},
	{"LOAD", false},
	{"IN FLIGHT", true},
	{"QUEUE", true},
	{"OUT/s", true},
	{"ERR", true},
	{"FRACTION", true},
	{"BLOCKED", true},
	{"CONN", true},
	{"SEEN", true},
}

func (s *screen) print(graph *topology.Graph) error {
	rows := [][]string{}
	for i := range graph.Nodes {
		rows = append(rows, s.row(graph, &graph.Nodes[i]))
	}
	widths := make([]int, len(columns))
	for i, column := range columns {
		widths[i] = len(column.title)
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	var out strings.Builder
	out.WriteString(s.prefix)
	out.WriteString(s.header(graph) + "\n\n")
	titles := make([]string, len(columns))
	for i, column := range columns {
		titles[i] = column.title
	}
	out.WriteString(s.paint("1", line(titles, widths)) + "\n")
	for i, row := range rows {
		out.WriteString(s.paint(colorOf(&graph.Nodes[i]), line(row, widths)) + "\n")
	}
	if len(rows) == 0 {
		out.WriteString("no component is registered\n")
	}
	if b := graph.Bottleneck; b != nil {
		out.WriteString("\n" + shortened(b.Sentence, 400) + "\n")
	}
	if s.lost != nil {
		lost := "control plane lost, this graph is from " + graph.Time.Format(time.TimeOnly) + ": " +
			shortened(s.lost.Error(), 400)
		out.WriteString("\n" + s.paint("31", lost) + "\n")
	}
	_, err := io.WriteString(s.to, out.String())
	return err
}

func (s *screen) header(graph *topology.Graph) string {
	p := graph.Pipeline
	state := "backpressure off"
	if p.Active {
		state = s.paint("33", "backpressure ACTIVE")
	}
	fraction := p.Fraction
	if fraction == 0 {
		fraction = 1
	}
	return fmt.Sprintf("%s  %s  load %s  fraction %.2f  %s  %s events/s  latency %s",
		printable(s.address), graph.Time.Format(time.TimeOnly), percent(p.Load), fraction, state, number(p.Throughput),
		short(p.Latency))
}

// row is one node's cells, in the order of columns. Every text that a component
// chose goes through printable.
func (s *screen) row(graph *topology.Graph, n *topology.Node) []string {
	inFlight := strconv.FormatInt(n.InFlight, 10)
	if n.MaxInFlight > 0 {
		inFlight += "/" + strconv.FormatInt(n.MaxInFlight, 10)
	}
	queue := strconv.FormatInt(n.QueueDepth, 10)
	if n.QueueCapacity > 0 {
		queue += "/" + strconv.FormatInt(n.QueueCapacity, 10)
	}
	fraction := n.Fraction
	if fraction == 0 {
		fraction = 1
	}
	seen := "-"
	if !n.LastHeartbeat.IsZero() {
		seen = short(max(0, graph.Time.Sub(n.LastHeartbeat)))
	}
	blocked, up, edges := 0.0, 0, 0
	for _, e := range graph.Edges {
		if e.From == n.ID {
			blocked = max(blocked, e.Blocked)
		}
		if e.From == n.ID || e.To == n.ID {
			edges++
			if e.State.Up() {
				up++
			}
		}
	}
	name := printable(n.ID)
	if n.Cause {
		name += " *"
	}
	return []string{
		name,
		strings.ToLower(printable(string(n.Kind))),
		printable(string(n.Health)),
		bar(n.Load) + " " + percent(n.Load),
		inFlight,
		queue,
		number(n.OutRate),
		percent(n.ErrorRatio),
		fmt.Sprintf("%.2f", fraction),
		percent(blocked),
		fmt.Sprintf("%d/%d", up, edges),
		seen,
	}
}

// line pads the cells; widths count characters, not bytes.
func line(cells []string, widths []int) string {
	var out strings.Builder
	for i, cell := range cells {
		pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
		if i > 0 {
			out.WriteString("  ")
		}
		if columns[i].right {
			out.WriteString(pad + cell)
		} else {
			out.WriteString(cell + pad)
		}
	}
	return strings.TrimRight(out.String(), " ")
}

// bar draws a load in eight cells; beyond 1 it is full.
func bar(load float64) string {
	const cells = 8
	if !(load > 0) {
		load = 0
	}
	full := int(math.Round(min(load, 1) * cells))
	return strings.Repeat("█", full) + strings.Repeat("·", cells-full)
}

func (s *screen) paint(code, text string) string {
	if !s.colors || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// colorOf is the row's color; the words in it say the same.
func colorOf(n *topology.Node) string {
	switch {
	case n.Health.Gone():
		return "90"
	case n.Health == topology.HealthUnhealthy || n.Load >= 0.95:
		return "31"
	case n.Health == topology.HealthDegraded || n.Load >= 0.8:
		return "33"
	default:
		return ""
	}
}

// percent writes a share; what is no number is a dash.
func percent(v float64) string {
	if v != v || math.IsInf(v, 0) {
		return "-"
	}
	return strconv.Itoa(int(math.Round(v*100))) + "%"
}

// number is short: 950, 12.3k, 4.5M.
func number(v float64) string {
	switch {
	case v != v || math.IsInf(v, 0):
		return "-"
	case v >= 1e6:
		return fmt.Sprintf("%.1fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1fk", v/1e3)
	default:
		return strconv.Itoa(int(math.Round(v)))
	}
}

// short writes a duration as a cell has room for it: 850ms, 3.5s, 4m10s.
func short(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	default:
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	}
}

// printable is a cell's text.
func printable(text string) string { return shortened(text, 48) }

// shortened keeps text of other teams' components from steering the terminal,
// and from filling it.
func shortened(text string, most int) string {
	var out strings.Builder
	for i, r := range []rune(text) {
		if i == most {
			out.WriteRune('…')
			break
		}
		if !unicode.IsGraphic(r) {
			r = '�'
		}
		out.WriteRune(r)
	}
	return out.String()
}
