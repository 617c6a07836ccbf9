// Package topology describes a pipeline: its components, which one feeds which, how loaded
// and how healthy each is, and which one holds the others up.
//
// A [Graph] is an immutable snapshot. A [Tracker] makes it from three kinds of
// knowledge, the more reliable first: what is observed (an interceptor or
// a connection pool sees who talks to whom), what is declared (a component names
// its upstreams), and, for inputs that neither explains, event types that match.
// It is never all sources to all processors to all sinks. Anything else that
// knows the graph is a [Source] with one method.
//
//	registrations ─▶ Register ─┐
//	reports ───────▶ Report ───┼─▶ Tracker ─▶ Graph ─▶ package page: the live page, SVG,
//	interceptors, ─▶ Observe ──┘     │                Mermaid, DOT, text, Grafana
//	pools                            ▼
//	                             Subscribe: the newest, never a queue
//
// The package is the home of a pipeline's nouns: [Kind], [Health], [Node], [Edge]
// and [Bottleneck] mean the same wherever they are shown. It decides nothing and
// stores nothing on disk. It imports the standard library alone, without
// net/http.
//
// The bottleneck is the most downstream node that is saturated, reached along
// blocked edges: blocked nodes stand upstream of the cause, and a view that
// colours them sends its readers to the wrong place.
//
// # Concurrency
//
// Everything is safe for concurrent use, and a graph that was handed out never
// changes. No method blocks on anything but a short mutex, except
// [Subscription.Next], which waits on its context.
//
// # Errors
//
// A rejected registration, report or observation returns an [*Error], which
// matches [ErrInvalid] and names the field. The tracker is then unchanged. Figures never fail: one that is NaN,
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
