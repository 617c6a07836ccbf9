// Command pools measures what the connection pool costs and gives: streams over
// a server's limit, unary latency beside bulk, throughput of short streams, the
// price of a call, of a connection, and of stalled streams. The server runs in
// a process of its own. It prints the tables of docs/connection-pool.md.
//
//	GOWORK=off go -C internal/bench run ./pools            # all of it
//	GOWORK=off go -C internal/bench run ./pools -run limit # one part
package main
