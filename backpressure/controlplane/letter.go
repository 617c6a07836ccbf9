package controlplane

import (
	"math"
	"time"

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

// The numbers of the fields that readBeat knows, as in controlplane.proto.
const (
	upBeat = 2

	beatTime = 1
	beatLoad = 2

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

// readBeat reads the message that agents send each second, a beat of a time and
// a load, off the wire. It says false to every other one, and to whatever is not
// quite as expected: those are for proto.Unmarshal, with which it agrees.
func readBeat(b []byte) (r backpressure.Report, ok bool) {
	loaded := false
	var seconds, nanos int64
	timed := false
	ok = eachField(b, func(f field) bool {
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
				loaded = true
				return eachField(f.bytes, func(f field) bool { return readLoad(f, &r) })
			}
			return false
		})
	})
	if timed {
		r.Time = time.Unix(seconds, nanos).UTC()
	}
	return r, ok && loaded
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
