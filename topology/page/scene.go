package page

import (
	"cmp"
	"math"
	"slices"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/internal/adjacency"
)

// Geometry of the drawing, in SVG units: one is a CSS pixel at full size.
const (
	cardWidth   = 252.0
	cardHeight  = 174.0
	columnGap   = 206.0
	rowGap      = 34.0
	lineSlot    = 26.0 // a waypoint's share of its layer
	margin      = 24.0
	narrowWidth = 360.0
	laneWidth   = 9.0
	labelHeight = 22.0
)

type point struct{ x, y float64 }

type rect struct{ x, y, w, h float64 }

func (r rect) overlaps(o rect) bool {
	return r.x < o.x+o.w && o.x < r.x+r.w && r.y < o.y+o.h && o.y < r.y+r.h
}

// scene is a layout in coordinates.
type scene struct {
	graph         *topology.Graph
	ix            *adjacency.Graph
	layout        *layout
	narrow        bool
	width, height float64
	cards         []rect   // by node; no width: not drawn
	paths         []string // by edge: the line
	spots         [][]rect // by edge: where its label may stand, the best first
	labels        []rect   // by edge: where it stands; no width: no room
}

// newScene lays a normalized graph out from left to right, or, narrow, in one
// column for a phone.
func newScene(g *topology.Graph, narrow bool) *scene {
	s := &scene{
		graph: g, ix: numbered(g), layout: newLayout(g), narrow: narrow,
		cards: make([]rect, len(g.Nodes)), paths: make([]string, len(g.Edges)),
		spots: make([][]rect, len(g.Edges)), labels: make([]rect, len(g.Edges)),
	}
	if narrow {
		s.column()
	} else {
		s.wide()
	}
	s.placeLabels()
	return s
}

// wide places the layers as columns, each centred in its band. A band is as high as
// its highest layer, so that pipelines that have nothing to do with each other never
// share a row. A line stays within the gaps between columns, but for its waypoints,
// which have a slot of their own in each column that it passes.
func (s *scene) wide() {
	bands := s.layout.bands
	heights := make([]float64, len(s.layout.layers)*bands) // of each layer's part of each band
	for at, layer := range s.layout.layers {
		for _, sl := range layer {
			heights[at*bands+s.layout.bandOf(s.ix, sl)] += slotHeight(sl) + rowGap
		}
	}
	tops := make([]float64, bands+1)
	for band := range bands {
		high := 0.0
		for at := range s.layout.layers {
			high = max(high, heights[at*bands+band])
		}
		tops[band+1] = tops[band] + high
	}
	tallest := max(0, tops[bands]-rowGap)
	s.width = 2*margin + max(float64(len(s.layout.layers))*(cardWidth+columnGap)-columnGap, cardWidth)
	// Lines that turn back run below all cards, each in a lane of its own.
	lanes := 0
	waypoints := make([][]point, len(s.graph.Edges)) // by edge, in the order of layers
	for at, layer := range s.layout.layers {
		x, y, band := margin+float64(at)*(cardWidth+columnGap), 0.0, -1
		for _, sl := range layer {
			if b := s.layout.bandOf(s.ix, sl); b != band {
				band = b
				y = margin + (tops[b]+tops[b+1]-heights[at*bands+b])/2
			}
			h := slotHeight(sl)
			if sl.node >= 0 {
				s.cards[sl.node] = rect{x, y, cardWidth, cardHeight}
			} else {
				waypoints[sl.edge] = append(waypoints[sl.edge], point{x, y + h/2}, point{x + cardWidth, y + h/2})
			}
			y += h + rowGap
		}
	}
	s.height = 2*margin + tallest
	for e := range s.graph.Edges {
		from, to := s.ix.From[e], s.ix.To[e]
		a, b := s.cards[from], s.cards[to]
		if a.w == 0 || b.w == 0 {
			continue
		}
		start, end := point{a.x + a.w, s.port(a, from, e, s.ix.Out)}, point{b.x, s.port(b, to, e, s.ix.In)}
		if s.layout.layer[from] >= s.layout.layer[to] { // back, or to itself
			lanes++
			low := 2*margin + tallest + float64(lanes)*14
			out := 12 + 3*float64(lanes%3)
			s.paths[e] = corners(
				point{a.x + a.w, start.y}, point{a.x + a.w + out, start.y}, point{a.x + a.w + out, low},
				point{b.x - out, low}, point{b.x - out, end.y}, end,
			)
			continue
		}
		points := append([]point{start}, waypoints[e]...)
		points = append(points, end)
		s.paths[e] = curve(points)
		w := labelWidth
		for _, at := range []float64{0.5, 0.34, 0.66, 0.22, 0.78} {
			for i := 0; i+1 < len(points); i += 2 { // the gaps, not the ways through a column
				p, q := points[i], points[i+1]
				c := bezier(p, q, at)
				if math.Abs(p.y-q.y) < labelHeight { // level: above the line, which stays visible
					c.y = min(p.y, q.y) - labelHeight/2 - 8
				}
				s.spots[e] = append(s.spots[e], rect{c.x - w/2, c.y - labelHeight/2, w, labelHeight})
			}
		}
	}
	if lanes > 0 {
		s.height += float64(lanes)*14 + margin
	}
}

func slotHeight(sl slot) float64 {
	if sl.node >= 0 {
		return cardHeight
	}
	return lineSlot
}

// port spreads a node's lines over the middle of its side, in the order of
// where they come from, so that they do not cross at the card.
func (s *scene) port(card rect, node, edge int, side adjacency.Lists) float64 {
	list := side.Of(node)
	place := 0
	mine := s.otherEnd(edge, node)
	for _, e := range list {
		if o := s.otherEnd(e, node); o < mine || o == mine && e < edge {
			place++
		}
	}
	return card.y + card.h/2 + (float64(place)-float64(len(list)-1)/2)*min(30, 0.7*card.h/float64(len(list)))
}

// otherEnd is the height of the card at the edge's other end: lines leave a card
// in the order in which they arrive.
func (s *scene) otherEnd(edge, node int) float64 {
	other := s.ix.From[edge]
	if other == node {
		other = s.ix.To[edge]
	}
	c := s.cards[other]
	return c.y + c.h/2
}

// column places the cards below one another. An edge to the next card goes
// straight down, every other one through a lane at the left. The labels of what
// comes in stand above the card, right of the line.
func (s *scene) column() {
	var order []int
	for _, layer := range s.layout.layers {
		for _, sl := range layer {
			if sl.node >= 0 {
				order = append(order, sl.node)
			}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(s.layout.band[a], s.layout.band[b]) })
	place := make([]int, len(s.graph.Nodes))
	for i, n := range order {
		place[n] = i
	}
	lane := make([]int, len(s.graph.Edges))
	var ends []int // by lane: the place up to which it is taken
	lanes := 0
	for _, n := range order {
		for _, e := range s.ix.Out.Of(n) {
			if s.direct(e, place) || s.layout.layer[s.ix.To[e]] < 0 {
				lane[e] = -1
				continue
			}
			low, high := min(place[n], place[s.ix.To[e]]), max(place[n], place[s.ix.To[e]])
			l := 0
			for l < len(ends) && ends[l] >= low {
				l++
			}
			if l == len(ends) {
				ends = append(ends, 0)
			}
			ends[l] = high
			lane[e] = l
			lanes = max(lanes, l+1)
		}
	}
	const most = 6 // further lanes share the last one's place
	left := 15 + laneWidth*float64(min(lanes, most))
	s.width = narrowWidth
	y := 12.0
	for i, n := range order {
		incoming := s.ix.In.Of(n)
		if i > 0 {
			y += 22
		}
		for k, e := range incoming {
			s.spots[e] = []rect{{left + 34, y + float64(k)*labelHeight, s.width - left - 46, labelHeight}}
		}
		y += float64(len(incoming)) * labelHeight
		if len(incoming) > 0 {
			y += 8
		}
		s.cards[n] = rect{left, y, s.width - left - 12, cardHeight}
		y += cardHeight
	}
	s.height = y + 12
	for e := range s.graph.Edges {
		from, to := s.ix.From[e], s.ix.To[e]
		a, b := s.cards[from], s.cards[to]
		switch {
		case a.w == 0 || b.w == 0:
		case lane[e] < 0:
			x := left + 18
			s.paths[e] = corners(point{x, a.y + a.h}, point{x, b.y})
		default:
			x := left - 9 - laneWidth*float64(min(lane[e], most-1))
			out, in := a.y+a.h*0.66, b.y+b.h*0.33
			s.paths[e] = corners(point{a.x, out}, point{x, out}, point{x, in}, point{b.x, in})
		}
	}
}

// direct reports whether the edge leads to the very next card of the column.
func (s *scene) direct(e int, place []int) bool {
	return place[s.ix.To[e]] == place[s.ix.From[e]]+1
}

const labelWidth = 170.0

// placeLabels puts each label on the first of its spots that is free of other
// labels; spots lie in the gaps, where no card is. Edges come first come, first
// served in their order, which does not depend on figures: a label does not jump
// when another one changes. A label that finds no room is left out; the table
// below the drawing has its figures.
func (s *scene) placeLabels() {
	var taken []rect
	for e := range s.graph.Edges {
		for _, spot := range s.spots[e] {
			free := true
			for _, other := range taken {
				free = free && !spot.overlaps(other)
			}
			if free {
				s.labels[e] = spot
				taken = append(taken, spot)
				break
			}
		}
	}
}

// bezier is the point at t of the curve that [curve] draws from p to q.
func bezier(p, q point, t float64) point {
	mid := (p.x + q.x) / 2
	u := 1 - t
	return point{
		u*u*u*p.x + 3*u*u*t*mid + 3*u*t*t*mid + t*t*t*q.x,
		u*u*u*p.y + 3*u*u*t*p.y + 3*u*t*t*q.y + t*t*t*q.y,
	}
}

func round(v float64) float64 { return math.Round(v*10) / 10 }
