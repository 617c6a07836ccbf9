package interceptors

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// eventFloor is the wait that is worth an event: pacing waits a little at every
// message, and a span must not hold a million events.
const eventFloor = 10 * time.Millisecond

// Names of the events on the current span. This package starts no span: that is
// otelgrpc's job, as a stats handler beside these interceptors.
const (
	eventWait     = "sluice.wait"
	eventRejected = "sluice.rejected"
)

func traceWait(ctx context.Context, nanos int64) {
	waited := time.Duration(nanos)
	if waited < eventFloor {
		return
	}
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.AddEvent(eventWait, trace.WithAttributes(attribute.Float64("sluice.wait_seconds", waited.Seconds())))
}

// traceRejection notes a rejection on the span that is there, if one is. Where
// tracing is off it costs one look-up in the context.
func traceRejection(ctx context.Context, e *Error) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.AddEvent(eventRejected, trace.WithAttributes(
		attribute.String("sluice.reason", string(e.Reason)),
		attribute.String("sluice.class", e.Class.String()),
		attribute.String("sluice.code", e.Code.String()),
	))
}
