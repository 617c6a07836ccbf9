// Package topology shows a pipeline: its components, who feeds whom, how loaded
// and how healthy each is, and which one holds the others up.
//
// A [Graph] is an immutable snapshot. A [Tracker] makes it from three kinds of
// knowledge, the surer before the less sure: what is observed (an interceptor or
// a connection pool sees who talks to whom), what is declared (a component names
// its upstreams), and, for inputs that neither explains, event types that match.
// It is never all sources to all processors to all sinks. Anything else that
// knows the graph is a [Source] with one method.
//
//	registrations ─▶ Register ─┐
//	reports ───────▶ Report ───┼─▶ Tracker ─▶ Graph ─┬─▶ Handler: the live page
//	interceptors, ─▶ Observe ──┘     │               └─▶ JSON, SVG, Mermaid, DOT,
//	pools                            ▼                   text, Grafana
//	                             Subscribe: the newest, never a queue
//
// The package draws and tells; it decides nothing, stores nothing on disk, and
// answers no request that changes anything. It imports nothing outside the
// standard library.
//
// The bottleneck is the most downstream node that is saturated, reached along
// blocked edges: blocked nodes stand upstream of the cause, and a view that
// colours them sends its readers to the wrong place.
//
// All views share one layered layout (K. Sugiyama, S. Tagawa, M. Toda: Methods
// for visual understanding of hierarchical system structures, 1981). It depends
// on ids and edges alone, so nothing jumps while figures change.
//
// # Concurrency
//
// Everything is safe for concurrent use, and a graph that was handed out never
// changes. No method blocks on anything but a short mutex, except
// [Subscription.Next], which waits on its context. A [Page] has one goroutine,
// which [Page.Close] ends and waits for.
//
// # Errors
//
// What cannot stand is an [*Error], which matches [ErrInvalid]: it names the
// field, and the tracker is as before. Figures never fail: one that is NaN,
// infinite or negative counts as zero, for a view must not vanish when a
// component miscounts.
//
// # Testing
//
// Package topologytest has a scripted pipeline that goes calm, busy, throttled,
// recovering and killed, graphs whose texts break an export that trusts them, and
// a check of what every [Source] owes.
// The clock is [TrackerConfig].Now, or testing/synctest's.
package topology
