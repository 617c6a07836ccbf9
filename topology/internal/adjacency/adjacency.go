// Package adjacency holds the edges of a graph whose nodes and edges are numbers.
package adjacency

// A Graph is edges by number: edge i goes from node From[i] to node To[i]. Out
// and In are each node's edges.
type Graph struct {
	From, To []int
	Out, In  Lists
}

// New returns the graph of so many nodes with those edges.
func New(nodes int, from, to []int) Graph {
	return Graph{From: from, To: to, Out: listsOf(nodes, from), In: listsOf(nodes, to)}
}

// Lists are a list of edges for each node, one after another in one slice: a
// slice of slices would cost an allocation for each node.
type Lists struct {
	ends  []int // of each list among items
	items []int
}

// Of returns the list of one node, in order.
func (l Lists) Of(node int) []int {
	begin := 0
	if node > 0 {
		begin = l.ends[node-1]
	}
	return l.items[begin:l.ends[node]:l.ends[node]]
}

// listsOf lists the places of each of n numbers, which numbers holds, in order.
func listsOf(n int, numbers []int) Lists {
	l := Lists{make([]int, n), make([]int, len(numbers))}
	for _, i := range numbers {
		l.ends[i]++
	}
	begin := 0
	for i, length := range l.ends {
		l.ends[i] = begin
		begin += length
	}
	for place, i := range numbers {
		l.items[l.ends[i]] = place
		l.ends[i]++
	}
	return l
}
