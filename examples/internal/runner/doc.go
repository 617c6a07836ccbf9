// Package runner is the pipeline in one command: it starts the components as
// child processes (or as goroutines), follows them, shows how far they are,
// drains them in order, and compares what was written with the Stellar SDK run
// directly.
//
//	prepare ──▶ start ──▶ work ──▶ stop ──▶ finish
//	ports,      control   until    sink     read back,
//	folder,     plane     the sink first    compare,
//	input       first     is done           sum up
//
// A child is this program's binary again with PIPELINE_CHILD_ROLE set. It says
// where it serves in one line of JSON on its standard output; a line on its
// standard input asks it to drain, and the end of its standard input means that
// its parent is gone.
//
// # Concurrency
//
// Run belongs to one goroutine and leaves none behind.
//
// # Errors
//
// What a component died of is the run's error. Lost or duplicate events are an
// error too. [ErrInterrupted] is a run that was stopped at once.
//
// # Testing
//
// The tests run the whole pipeline; its children are the test binary.
package runner
