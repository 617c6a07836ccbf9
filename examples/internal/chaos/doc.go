// Package chaos breaks the pipeline from outside: source, processor and sink run
// as processes over the embedded ledgers, and a seeded sequence of faults kills,
// halts and restarts them, starts a second sink on the same folder, and makes
// the sink's disk fail at each step of a commit. In the end every column of the
// files is compared with the Stellar SDK.
//
// It holds a test only:
//
//	go test ./internal/chaos -args -faults 200 -seed 7
//
// # Testing
//
// 30 faults with a fixed seed run with all other tests.
package chaos
