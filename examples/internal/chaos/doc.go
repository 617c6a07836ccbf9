// Package chaos breaks the pipeline from outside: source, processor and sink run
// as processes over the embedded ledgers, and a seeded sequence of faults kills,
// halts and restarts them, cuts the links between them, slows them down and leaves
// them half-open, breaks a component and a link at once, starts a second sink on
// the same folder, and makes the sink's disk fail at each step of a commit. In the
// end every column of the files is compared with the Stellar SDK.
//
// It holds a test only. 40 faults with a fixed seed run with all other tests. More,
// or others:
//
//	go test -v -timeout 1h ./examples/internal/chaos -args -faults 200 -seed 7
package chaos
