// Package alert evaluates alert rules on the snapshots of a monitor, with the
// semantics of Prometheus' alerting rules. [DefaultRules] are the rules that
// ship; package mixin generates Prometheus' rules file from the same table, and
// a test lets promtool judge that both come to the same states at the same
// times. It sends no notifications: subscribe with [Engine.OnTransition].
//
// A rule's condition comes from a closed set ([Func]): a value, a ratio of two
// families, a counter's rate or increase, or the absence of a family. There is
// no embedded PromQL.
//
//	inactive ──holds──▶ pending ──for its time──▶ firing ──holds no more──▶ resolved
//	   ▲                   │                        │ ▲                        │
//	   └───holds no more───┘                        └─┘ KeepFiring             └─▶ forgotten after 15 min
//
// What Prometheus does not know, the engine marks: an alert that another one
// escalates is inhibited, and the load of a service that the pipeline's
// bottleneck holds up is caused by the bottleneck.
//
// # Concurrency
//
// All methods of an [Engine] may be called from any goroutine. Evaluations run
// one after another; subscribers are called in the goroutine that evaluates,
// which of a started monitor is the monitor's own.
//
// # Errors
//
// [New] joins all problems of the rules; each is a [monitor.Error] and a
// [monitor.ErrConfig]. [Engine.Acknowledge] returns [ErrNoAlert].
//
// # Testing
//
// Call [Engine.Evaluate] with snapshots of your own, or watch a started monitor
// in a testing/synctest bubble. Package monitortest has a recorder of
// transitions.
package alert
