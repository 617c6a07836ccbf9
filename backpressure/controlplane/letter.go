package controlplane

import (
	"math"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/withobsrvr/sluice/backpressure"
)

// A letter is a message of an agent, unopened: to protobuf it is one without
// fields, which keeps as bytes what it does not know. Opened at once, ten thousand
// reports a second would make five objects each, most of a control plane's garbage.
type letter struct{ emptypb.Empty }

// bytes are valid until the next message is received.
func (l *letter) bytes() []byte { return l.ProtoReflect().GetUnknown() }

// letterCodec is protobuf's, and puts a letter where the last one was.
type letterCodec struct{ encoding.CodecV2 }

func (c letterCodec) Unmarshal(data mem.BufferSlice, v any) error {
	l, ok := v.(*letter)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	message := l.bytes()[:0]
	for _, part := range data {
		message = append(message, part.ReadOnlyData()...)
	}
	l.ProtoReflect().SetUnknown(message)
	return nil
}

// The numbers of the fields that a plainBeat has, as in controlplane.proto.
const (
	upBeat = 2

	beatTime    = 1
	beatLoad    = 2
	beatMetrics = 3

	entryKey   = 1
	entryValue = 2

	timeSeconds = 1
	timeNanos   = 2

	loadInFlight    = 1
	loadMaxInFlight = 2
	loadOwn         = 3
	loadQueueDepth  = 4
	loadThroughput  = 5
	loadLatency     = 6
	loadErrorRate   = 7
	loadFraction    = 8
)

// A plainBeat is a beat as agents send it each second and as a heartbeat: a time,
// perhaps a load and perhaps metrics.
type plainBeat struct {
	report   backpressure.Report // its time, and its load
	loaded   bool                // it has a load
	readings []reading           // their names are valid as long as the message
}

// maxReadings is how many metrics a plain beat has at most: their room is kept.
const maxReadings = 64

// plainBeats are used anew: there is one for each beat that is being taken, not
// for each session.
var plainBeats = sync.Pool{New: func() any { return &plainBeat{readings: make([]reading, 0, 16)} }}

// read reads a message of an agent off the wire. It says false to what is no
// plain beat, and to whatever is not quite as expected: those are for
// proto.Unmarshal, with which it agrees.
func (p *plainBeat) read(message []byte) bool {
	*p = plainBeat{readings: p.readings[:0]}
	beat := false
	var seconds, nanos int64
	timed := false
	ok := eachField(message, func(f field) bool {
		beat = true
		return f.number == upBeat && f.kind == protowire.BytesType && eachField(f.bytes, func(f field) bool {
			switch {
			case f.kind != protowire.BytesType:
				return false
			case f.number == beatTime:
				timed = true
				return eachField(f.bytes, func(f field) bool {
					switch {
					case f.kind != protowire.VarintType:
						return false
					case f.number == timeSeconds:
						seconds = int64(f.value)
					case f.number == timeNanos:
						nanos = int64(int32(f.value))
					default:
						return false
					}
					return true
				})
			case f.number == beatLoad:
				p.loaded = true
				return eachField(f.bytes, func(f field) bool { return readLoad(f, &p.report) })
			case f.number == beatMetrics && len(p.readings) < maxReadings:
				one, ok := readReading(f.bytes)
				p.readings = append(p.readings, one)
				return ok
			}
			return false
		})
	})
	if timed {
		p.report.Time = time.Unix(seconds, nanos).UTC()
	}
	return ok && beat
}

// reportOf is what the beat reports of the component: without a load, that it is
// as before.
func (p *plainBeat) reportOf(e *entry) backpressure.Report {
	report := e.Report
	if p.loaded {
		report = p.report
	}
	report.ServiceID, report.Time = e.ID, p.report.Time
	return report
}

// readReading reads an entry of a map: both of its fields may be absent.
func readReading(b []byte) (one reading, ok bool) {
	ok = eachField(b, func(f field) bool {
		switch {
		case f.number == entryKey && f.kind == protowire.BytesType:
			one.name = f.bytes
			return utf8.Valid(f.bytes)
		case f.number == entryValue && f.kind == protowire.Fixed64Type:
			one.value = math.Float64frombits(f.value)
			return true
		}
		return false
	})
	return one, ok
}

func readLoad(f field, r *backpressure.Report) bool {
	switch f.kind {
	case protowire.VarintType:
		switch v := int64(f.value); f.number {
		case loadInFlight:
			r.InFlight = v
		case loadMaxInFlight:
			r.MaxInFlight = v
		case loadQueueDepth:
			r.QueueDepth = v
		case loadLatency:
			r.Latency = time.Duration(v)
		default:
			return false
		}
		return true
	case protowire.Fixed64Type:
		switch v := math.Float64frombits(f.value); f.number {
		case loadOwn:
			r.Load = v
		case loadThroughput:
			r.Throughput = v
		case loadErrorRate:
			r.ErrorRate = v
		case loadFraction:
			r.Fraction = v
		default:
			return false
		}
		return true
	default:
		return false
	}
}

// A field is one field of a message, as it came.
type field struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64
	bytes  []byte
}

// eachField reads b field by field, and says whether all were read and taken.
func eachField(b []byte, take func(field) bool) bool {
	for len(b) > 0 {
		var f field
		var n int
		f.number, f.kind, n = protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		switch f.kind {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.value, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			return false
		}
		if n < 0 || !take(f) {
			return false
		}
		b = b[n:]
	}
	return true
}
