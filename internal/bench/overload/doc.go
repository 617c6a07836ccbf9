// Command overload offers a gRPC server more than it can serve, in real time
// over loopback TCP, and prints what came through under several controls, as
// Markdown.
//
//	GOWORK=off go -C internal/bench run ./overload -seeds 1 -rows '2x|4x'
//	GOWORK=off go -C internal/bench run ./overload -list
//
// The server, a process of its own, holds one of 8 slots for 20 ms, so its
// capacity is 400 a second. The clients, in the process that prints, send
// Poisson arrivals and never wait for an answer to send the next; each request
// has 200 ms from the moment at which it was due. Goodput is the answers in
// time, as a share of what was possible: the smaller of load and capacity. p99
// is that of all that were not rejected, late ones included. Every cell is the
// median over the seeds; the controls take turns, so that whatever else the
// machine does meets all of them.
//
// In the two-stage rows each stage is a process, and the second is the
// bottleneck: 16 slots, then 8. Our stages report to a control plane in a
// fourth process, and the first one follows its fraction.
package main
