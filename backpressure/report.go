package backpressure

import (
	"math"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/withobsrvr/sluice/topology"
)

// Limits of a report that are not settable: they bound what one service costs.
const (
	maxIDLength  = 256 // bytes
	MaxUpstreams = 64  // of one service
	maxLoad      = 1000
	maxLatency   = 24 * time.Hour
	maxCount     = 1e15 // below 2^53: exact as a float64
)

// Report is what a service says of itself. It replaces the service's former
// report as a whole, except that Upstreams and Kind are kept when left zero.
//
// InFlight and MaxInFlight decide; Load adds to them. Throughput, Latency,
// QueueDepth and ErrorRate are for people: no decision reads them. The controller
// keeps the report, and clones Upstreams: the caller may use its slice again.
type Report struct {
	ServiceID string
	// InFlight is the work admitted and not yet finished, in messages or any other
	// unit of the service's own, and MaxInFlight its limit in the same unit. A
	// service without a limit (0) has the load that Load says, and counts in no sum
	// of limits.
	InFlight, MaxInFlight int64
	// Load is the service's own view, for one that also counts rows and bytes:
	// the largest of in flight / limit. The load that counts is the larger of
	// this and InFlight / MaxInFlight. 0: derive it.
	Load float64
	// QueueDepth is what waits before the service's gate, in the unit of InFlight.
	QueueDepth int64
	// Throughput is in events per second.
	Throughput float64
	// Latency is the service's own part of the way: from taking a unit of work
	// to handing it on.
	Latency time.Duration
	// ErrorRate is the share of units that failed, 0..1.
	ErrorRate float64
	// Fraction is the fraction that the service works at, for a decider that
	// has just started (see Config.Learn). 0: not known.
	Fraction float64
	// Kind is the service's place: a fraction saves the most work at a source, and
	// what leaves the sinks is the pipeline's throughput. Empty: as before.
	Kind topology.Kind
	// Upstreams are the ids of the services that feed this one, also of those that
	// have not reported yet. Nil: as before; empty: none, which is a fact about the
	// graph, too, and puts the service on a path of its own.
	Upstreams []string
	// Time is when the report was made, by the sender's clock. It is judged by
	// Config.MaxClockSkew and shown; the controller measures ages by its own clock.
	// Zero: now.
	Time time.Time
}

func (c *Config) checkReport(r *Report, now func() time.Time) *Error {
	if e := checkID("ServiceID", r.ServiceID); e != nil {
		return e
	}
	bad := func(reason Reason, field, value, want string) *Error {
		return &Error{Reason: reason, ServiceID: shorten(r.ServiceID), Field: field, Value: value, Want: want}
	}
	for _, n := range [...]struct {
		name string
		v    int64
		most int64
	}{
		{"InFlight", r.InFlight, c.MaxServiceInFlight},
		{"MaxInFlight", r.MaxInFlight, c.MaxServiceInFlight},
		{"QueueDepth", r.QueueDepth, maxCount},
		{"Latency", int64(r.Latency), int64(maxLatency)},
	} {
		if n.v < 0 {
			return bad(BadNumber, n.name, strconv.FormatInt(n.v, 10), "0 or more")
		}
		if n.v > n.most {
			return bad(Implausible, n.name, strconv.FormatInt(n.v, 10), "at most "+strconv.FormatInt(n.most, 10))
		}
	}
	for _, n := range [...]struct {
		name string
		v    float64
		most float64
	}{
		{"Load", r.Load, maxLoad},
		{"Throughput", r.Throughput, maxCount},
		{"ErrorRate", r.ErrorRate, 1},
		{"Fraction", r.Fraction, 1},
	} {
		if !(n.v >= 0) || math.IsInf(n.v, 0) { // not "n.v < 0": NaN
			return bad(BadNumber, n.name, formatFloat(n.v), "a number from 0")
		}
		if n.v > n.most {
			return bad(Implausible, n.name, formatFloat(n.v), "at most "+formatFloat(n.most))
		}
	}
	switch r.Kind {
	case "", topology.KindUnknown, topology.KindSource, topology.KindProcessor, topology.KindSink:
	default:
		return bad(BadNumber, "Kind", strconv.Quote(shorten(string(r.Kind))), "the kind of a stage")
	}
	if len(r.Upstreams) > MaxUpstreams {
		return bad(TooMany, "Upstreams", strconv.Itoa(len(r.Upstreams))+" ids", "at most "+strconv.Itoa(MaxUpstreams))
	}
	for _, id := range r.Upstreams {
		if e := checkID("Upstreams", id); e != nil {
			e.ServiceID = r.ServiceID
			return e
		}
	}
	if !r.Time.IsZero() {
		return c.checkTime(r.ServiceID, r.Time, now)
	}
	return nil
}

func (c *Config) checkTime(id string, t time.Time, now func() time.Time) *Error {
	if c.MaxClockSkew < 0 {
		return nil
	}
	if skew := now().Sub(t).Abs(); skew > c.MaxClockSkew {
		return &Error{
			Reason: ClockSkew, ServiceID: shorten(id), Field: "Time",
			Value: skew.String() + " away", Want: "at most " + c.MaxClockSkew.String(),
		}
	}
	return nil
}

// CheckID says whether id may name a service: 1 to 256 bytes of
// printable UTF-8 without line breaks. Ids come from outside and end up in logs,
// metrics and terminals: what this function lets through is harmless there. The
// error is an [*Error], and quotes no more than the first 64 bytes.
func CheckID(id string) error {
	if e := checkID("ServiceID", id); e != nil {
		return e
	}
	return nil
}

func checkID(field, id string) *Error {
	if id == "" || len(id) > maxIDLength {
		return &Error{
			Reason: BadID, Field: field,
			Value: strconv.Itoa(len(id)) + " bytes long", Want: "1 to " + strconv.Itoa(maxIDLength),
		}
	}
	plain := true
	for i := range len(id) {
		if id[i] < 0x20 || id[i] > 0x7e {
			plain = false
			break
		}
	}
	if plain {
		return nil
	}
	if !utf8.ValidString(id) {
		return &Error{Reason: BadID, Field: field, Value: strconv.Quote(shorten(id)), Want: "UTF-8"}
	}
	for _, c := range id {
		if !unicode.IsPrint(c) {
			return &Error{Reason: BadID, Field: field, Value: strconv.Quote(shorten(id)), Want: "printable text"}
		}
	}
	return nil
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// load is the load that counts: the larger of what the service says and what its
// own counts say, so that a service that counts rows and bytes as well is not taken
// for idle by its messages, and one that says nothing is not, either.
func (r *Report) load() float64 { return loadOf(r.InFlight, r.MaxInFlight, r.Load) }

func loadOf(inFlight, most int64, own float64) float64 {
	if most > 0 {
		return max(own, float64(inFlight)/float64(most))
	}
	return own
}
