// Package flight measures what the interceptors add to a DoGet, end to end.
//
//	go test -run TestDoGetTable -v ./flight
//
// prints the table of docs/interceptors.md. Rounds of the variants are
// interleaved and medians taken, because on a shared machine the neighbours
// change more from minute to minute than an interceptor costs.
package flight
