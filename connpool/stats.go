package connpool

import "time"

// State is the state of a connection.
type State uint8

const (
	// StateReady connections take calls.
	StateReady State = iota
	// StateConnecting connections lost their transport and are getting another.
	StateConnecting
	// StateEjected connections failed their health checks; they return by themselves.
	StateEjected
	// StateDraining connections take no more calls and close after their last.
	StateDraining
	// StateClosed connections have ended their last call and are being closed.
	StateClosed
)

// String names the state as it stands in labels.
func (s State) String() string {
	return name(s, "ready", "connecting", "ejected", "draining", "closed")
}

// ScaleReason says why the pool opened, took back or gave up a connection. The
// set is closed.
type ScaleReason string

// The reasons of scale events.
const (
	UpMinimum     ScaleReason = "up_minimum"     // fewer than the minimum were open
	UpLoad        ScaleReason = "up_load"        // utilisation passed its target
	UpWaiting     ScaleReason = "up_waiting"     // calls stood in the queue
	UpUndrain     ScaleReason = "up_undrain"     // a draining connection was taken back
	UpReplace     ScaleReason = "up_replace"     // an old or sick one got a successor
	DownIdle      ScaleReason = "down_idle"      // nothing used it for IdleTimeout
	DownLoad      ScaleReason = "down_load"      // utilisation was low for IdleTimeout
	DownAge       ScaleReason = "down_age"       // it passed MaxAge, its successor is open
	DownUnhealthy ScaleReason = "down_unhealthy" // it stopped answering
	DownLost      ScaleReason = "down_lost"      // its server cannot be reached
)

// WaitBucketCount is the number of Stats.WaitBuckets: 1 ms to 512 ms, and the rest.
const WaitBucketCount = 11

// Stats is a snapshot of a pool.
type Stats struct {
	// Endpoint is the pool's target.
	Endpoint string
	// TotalConnections open or reconnecting, draining ones included.
	TotalConnections int
	// HealthyConnections take calls; IdleConnections are those of them that
	// have none.
	HealthyConnections, IdleConnections int
	// AverageUseCount is the calls a connection, over those open now.
	AverageUseCount float64
	// OldestConnection is the age of the oldest open connection.
	OldestConnection time.Duration
	// TotalUseCount is the calls so far, on open and closed connections.
	TotalUseCount int64

	// Connecting, Ejected and Draining connections.
	Connecting, Ejected, Draining int
	// MinConnections and MaxConnections of the main lane.
	MinConnections, MaxConnections int
	// Streams running now, and the most that the healthy connections carry.
	Streams, StreamCapacity int
	// OldestStream is the age of the oldest running call.
	OldestStream time.Duration
	// Waiting calls now; Waits and WaitTime are their number and time so far.
	Waiting  int
	Waits    uint64
	WaitTime time.Duration
	// WaitBuckets counts the waits by length: the i-th those of at most 1 ms·2^i
	// and longer than the bucket before, the last all that were longer.
	WaitBuckets [WaitBucketCount]uint64
	// LearnedLimit is the server's stream limit as last seen; 0 = never reached.
	LearnedLimit int
	// ScaleEvents so far, by reason: every reason is there.
	ScaleEvents map[ScaleReason]uint64
	// Counters of what happened so far.
	Dials, DialFailures, Drains, DrainsForced, Ejections uint64
	// Moved calls were taken back from a full or lost connection before they were sent;
	// Retries were sent again; Saturated, Unreachable and BreakerOpen are calls
	// refused for that reason; Abandoned streams were dropped without an end.
	Moved, Retries, Saturated, Unreachable, BreakerOpen, Abandoned uint64
	// Breaker is the circuit breaker's state.
	Breaker BreakerState
	// LastError is why the last attempt to connect failed; nil after a success.
	LastError error
	// RoundTrip is the shortest of the connections' own: the time to the server
	// and back where it waits least behind other calls; 0 = unknown.
	RoundTrip time.Duration
	// NextAttempt is the time until the next attempt to connect; 0 = none due.
	NextAttempt time.Duration
	// Connections one by one, ordered by ID.
	Connections []ConnStats
}

// ConnStats is a snapshot of one connection.
type ConnStats struct {
	// ID is small and used again after the connection is gone, so that a label
	// made of it stays bounded.
	ID int
	// Lane of the connection; "" = the main one.
	Lane string
	// State of the connection.
	State State
	// Streams running on it, and the most it may carry.
	Streams, Limit int
	// LearnedLimit is its server's own stream limit; 0 = never reached.
	LearnedLimit int
	// Uses is the calls it has had.
	Uses int64
	// Age since it was opened.
	Age time.Duration
	// RoundTrip of its last health check that was answered; 0 = none was.
	RoundTrip time.Duration
}

// BreakerState is the state of an endpoint's circuit breaker.
type BreakerState uint8

const (
	// BreakerClosed lets every call pass. It is also the state of a breaker that is off.
	BreakerClosed BreakerState = iota
	// BreakerOpened refuses every call.
	BreakerOpened
	// BreakerHalfOpen lets one call at a time probe the endpoint.
	BreakerHalfOpen
)

// String names the state as it stands in labels.
func (s BreakerState) String() string { return name(s, "closed", "open", "half_open") }
