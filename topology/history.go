package topology

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"io"
	"slices"
	"time"
)

// history keeps the last samples, so that one can see what happened just
// before. It is bounded in number and in bytes: each moment is kept compressed,
// the loads of each node as numbers.
type history struct {
	size    int                  // how many moments
	room    int                  // how many bytes of them
	bytes   int                  // that they take
	moments []moment             // the newest last
	loads   map[string][]float32 // by node id, the newest last
	packer  *flate.Writer        // kept: a new one costs a megabyte
}

// historyBytes are enough for 3600 moments of a hundred nodes, or 60 of ten thousand.
const historyBytes = 16 << 20

func newHistory(size, room int) history {
	return history{size: size, room: room, loads: map[string][]float32{}}
}

type moment struct {
	at     time.Time
	load   float64
	active bool
	packed []byte
}

func (h *history) add(g *Graph) {
	h.moments = append(h.moments, moment{g.Time, g.Pipeline.Load, g.Pipeline.Active, h.pack(g)})
	h.bytes += len(h.moments[len(h.moments)-1].packed)
	old := 0
	for last := len(h.moments) - 1; old < last && (len(h.moments)-old > h.size || h.bytes > h.room); old++ {
		h.bytes -= len(h.moments[old].packed)
	}
	h.moments = slices.Delete(h.moments, 0, old)
	present := make(map[string]bool, len(g.Nodes))
	for i := range g.Nodes {
		n := &g.Nodes[i]
		present[n.ID] = true
		load := float32(n.Load)
		if n.Health.Gone() {
			load = 0
		}
		list := append(h.loads[n.ID], load)
		h.loads[n.ID] = slices.Delete(list, 0, max(len(list)-len(h.moments), 0))
	}
	for id := range h.loads {
		if !present[id] {
			delete(h.loads, id)
		}
	}
}

// find returns the newest moment that is not after a time: its place, or -1.
func (h *history) find(t time.Time) int {
	i, found := slices.BinarySearchFunc(h.moments, t, func(m moment, t time.Time) int { return m.at.Compare(t) })
	if found {
		return i
	}
	return i - 1
}

// sparks returns copies of the loads that led to a moment, for each node.
func (h *history) sparks(place int) map[string][]float32 {
	after := len(h.moments) - 1 - place
	m := make(map[string][]float32, len(h.loads))
	for id, list := range h.loads {
		list = list[:max(len(list)-after, 0)]
		m[id] = append([]float32{}, list[max(len(list)-sparkSamples, 0):]...)
	}
	return m
}

func (h *history) pack(g *Graph) []byte {
	var b bytes.Buffer
	var err error
	if h.packer == nil {
		h.packer, err = flate.NewWriter(&b, flate.BestSpeed)
	} else {
		h.packer.Reset(&b)
	}
	if err == nil {
		err = json.NewEncoder(h.packer).Encode(g)
	}
	if err == nil {
		err = h.packer.Close()
	}
	if err != nil { // a normalized graph always marshals, and a buffer never fails
		panic("topology: pack: " + err.Error())
	}
	return b.Bytes()
}

func unpack(packed []byte) (*Graph, error) {
	return ReadJSON(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), 16<<20))
}
