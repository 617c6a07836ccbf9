// Package page draws a pipeline for people: [New] serves it as a live page, and
// the Write functions write a graph as SVG, Mermaid, DOT, text and for Grafana's
// node graph panel. It decides nothing, stores nothing on disk, and answers no
// request that changes anything.
//
// All drawings share one layered layout (K. Sugiyama, S. Tagawa, M. Toda: Methods
// for visual understanding of hierarchical system structures, 1981). It depends
// on ids and edges alone, so nothing jumps while figures change.
//
// # Concurrency
//
// Everything is safe for concurrent use. A [Page] has one goroutine, which
// [Page.Close] ends and waits for.
//
// # Errors
//
// A drawing never fails because of what the graph holds: it normalizes the graph
// first. The Write functions return the error of their writer and no other.
//
// # Testing
//
// Package topologytest has a scripted pipeline, and graphs whose texts break an
// export that trusts them.
package page
