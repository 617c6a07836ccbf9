// Package otlp proves that the monitor's OpenTelemetry face arrives over OTLP
// as the family table says: it runs an SDK with the gRPC exporter against a
// receiver in this process. It has tests only.
package otlp
