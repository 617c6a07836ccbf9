package monitor

import (
	"cmp"
	"slices"
)

// Cause is a service that holds others back.
type Cause struct {
	Service string  `json:"service"`
	Load    float64 `json:"load"`
	// Blocks are the services upstream of it that wait because of it.
	Blocks []string `json:"blocks"`
}

// blockedFrom is the share of time from which on an edge counts as blocked.
const blockedFrom = 0.25

// causes finds the roots: from each service that is loaded, or held back, down
// along the edges as long as what follows is loaded or holds it back. Upstream
// services of a slow one fill up too; they are victims, named in Blocks.
func causes(s *Snapshot, loaded float64) []Cause {
	index := make(map[string]int, len(s.Services))
	for i := range s.Services {
		index[s.Services[i].ID] = i
	}
	type hop struct {
		to      int
		blocked bool
	}
	down := make([][]hop, len(s.Services))
	link := func(from, to string, blocked bool) {
		i, ok := index[from]
		j, known := index[to]
		if ok && known && i != j {
			down[i] = append(down[i], hop{j, blocked})
		}
	}
	for i := range s.Services {
		for _, upstream := range s.Services[i].Upstreams {
			link(upstream, s.Services[i].ID, false)
		}
	}
	for i := range s.Edges {
		link(s.Edges[i].Source, s.Edges[i].Target, s.Edges[i].BlockedRatio >= blockedFrom)
	}
	full := func(i int) bool { return s.Services[i].Load > loaded }

	// Below a start lies what can be reached along such edges, itself included.
	below := map[int][]bool{}
	for start := range s.Services {
		if !full(start) && !slices.ContainsFunc(down[start], func(h hop) bool { return h.blocked }) {
			continue
		}
		seen := make([]bool, len(s.Services))
		seen[start] = true
		for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
			for _, h := range down[queue[0]] {
				if (h.blocked || full(h.to)) && !seen[h.to] {
					seen[h.to] = true
					queue = append(queue, h.to)
				}
			}
		}
		below[start] = seen
	}
	reaches := func(from, to int) bool { return from == to || below[from] != nil && below[from][to] }
	// A root reaches nothing that does not reach it; of a cycle of them the most
	// loaded stands for all.
	victims := map[int]map[int]bool{}
	for start, seen := range below {
		for i := range seen {
			if !seen[i] {
				continue
			}
			root := i
			for j := range s.Services {
				if !reaches(i, j) {
					continue
				}
				if !reaches(j, i) {
					root = -1
					break
				}
				if s.Services[j].Load > s.Services[root].Load || s.Services[j].Load == s.Services[root].Load && j < root {
					root = j
				}
			}
			if root < 0 {
				continue
			}
			if victims[root] == nil {
				victims[root] = map[int]bool{}
			}
			if root != start {
				victims[root][start] = true
			}
		}
	}
	var list []Cause
	for root, blocks := range victims {
		c := Cause{Service: s.Services[root].ID, Load: s.Services[root].Load, Blocks: []string{}}
		for i := range blocks {
			c.Blocks = append(c.Blocks, s.Services[i].ID)
		}
		slices.Sort(c.Blocks)
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(len(b.Blocks), len(a.Blocks)), cmp.Compare(b.Load, a.Load), cmp.Compare(a.Service, b.Service))
	})
	return list
}

// victims returns who is held back, by whom. A service that is a cause itself
// is no victim.
func victims(list []Cause) map[string]string {
	by := map[string]string{}
	for _, c := range list {
		for _, id := range c.Blocks {
			by[id] = c.Service
		}
	}
	for _, c := range list {
		delete(by, c.Service)
	}
	return by
}
