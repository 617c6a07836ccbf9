// Package sluice is the root of a library of composable flow-control middleware
// for streaming pipelines over Arrow Flight and gRPC. It holds nothing itself;
// the packages do:
//
//   - [github.com/withobsrvr/sluice/flowcontrol] is the gate: in-flight limit,
//     tokens and an admitted fraction over messages, rows and bytes at once.
//   - [github.com/withobsrvr/sluice/backpressure] is the pipeline's decision:
//     load reports in, one fraction out. Its controlplane package carries it
//     across processes.
//   - [github.com/withobsrvr/sluice/connpool] is a gRPC connection pool that
//     counts streams until they really end.
//   - [github.com/withobsrvr/sluice/interceptors] puts the gate around Flight
//     and gRPC servers and clients, and tracks in-flight work by itself.
//   - [github.com/withobsrvr/sluice/monitor] says what is happening, why, and
//     what to do, in Prometheus and OpenTelemetry.
//   - [github.com/withobsrvr/sluice/topology] shows the pipeline.
//
// A reference pipeline on real Stellar ledgers is in the examples folder of the
// repository.
package sluice
