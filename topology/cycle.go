package topology

// findCycles fills in Cycles and marks their nodes and edges: the strongly
// connected components of more than one node, and nodes that feed themselves
// (Tarjan 1972, without recursion, so that a hostile chain cannot overflow the
// stack).
func (g *Graph) findCycles(ix *indexed) {
	g.Cycles = nil
	component := components(ix, len(g.Nodes))
	for i := range g.Edges {
		from, to := ix.From[i], ix.To[i]
		if component[from] == component[to] {
			g.Edges[i].Cyclic = true
			g.Nodes[from].Cyclic, g.Nodes[to].Cyclic = true, true
		}
	}
	cycle := map[int]int{} // among Cycles, by component
	for n, c := range component {
		if !g.Nodes[n].Cyclic {
			continue
		}
		i, ok := cycle[c]
		if !ok {
			i = len(g.Cycles)
			cycle[c], g.Cycles = i, append(g.Cycles, nil)
		}
		g.Cycles[i] = append(g.Cycles[i], g.Nodes[n].ID) // in order, as the nodes are
	}
}

// components numbers the strongly connected component of each node.
func components(ix *indexed, nodes int) []int {
	const unseen = 0
	var (
		number    = make([]int, nodes) // order of discovery, from 1
		low       = make([]int, nodes)
		component = make([]int, nodes)
		onStack   = make([]bool, nodes)
		stack     []int
		calls     []struct{ node, next int }
		count     int
		found     int
	)
	for root := range nodes {
		if number[root] != unseen {
			continue
		}
		calls = append(calls[:0], struct{ node, next int }{root, 0})
		for len(calls) > 0 {
			call := &calls[len(calls)-1]
			n := call.node
			if call.next == 0 {
				count++
				number[n], low[n] = count, count
				stack = append(stack, n)
				onStack[n] = true
			}
			if call.next < len(ix.Out.Of(n)) {
				to := ix.To[ix.Out.Of(n)[call.next]]
				call.next++
				if number[to] == unseen {
					calls = append(calls, struct{ node, next int }{to, 0})
				} else if onStack[to] {
					low[n] = min(low[n], number[to])
				}
				continue
			}
			if low[n] == number[n] {
				for {
					m := stack[len(stack)-1]
					stack = stack[:len(stack)-1]
					onStack[m] = false
					component[m] = found
					if m == n {
						break
					}
				}
				found++
			}
			calls = calls[:len(calls)-1]
			if len(calls) > 0 {
				parent := calls[len(calls)-1].node
				low[parent] = min(low[parent], low[n])
			}
		}
	}
	return component
}
