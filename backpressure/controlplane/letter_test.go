package controlplane

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/internal/wire/sluicepb"
)

func marshal(t testing.TB, beat *sluicepb.Beat) []byte {
	b, err := proto.Marshal(&sluicepb.Up{Message: &sluicepb.Up_Beat{Beat: beat}})
	require.NoError(t, err)
	return b
}

var beats = []*sluicepb.Beat{
	{Time: timestamppb.New(time.Unix(1_700_000_000, 5)), Load: &sluicepb.Load{
		InFlight: 1, MaxInFlight: 2, Load: 0.5, QueueDepth: 3, Throughput: 4, LatencyNanos: 5, ErrorRate: 0.25, Fraction: 0.75,
	}},
	{Load: &sluicepb.Load{}},
	{Load: &sluicepb.Load{InFlight: -1, Load: math.NaN(), LatencyNanos: math.MinInt64}},
	{Time: &timestamppb.Timestamp{Seconds: -1, Nanos: -1}, Load: &sluicepb.Load{}},
	{Load: &sluicepb.Load{InFlight: 1}, Metrics: map[string]float64{"a": 1, "": 0, "é": math.Inf(1)}},
	{Load: &sluicepb.Load{InFlight: 1}, Metrics: numbered(maxReadings)},
	{Time: timestamppb.New(time.Unix(1, 1))},
	{Metrics: numbered(3)},
	{},

	{Load: &sluicepb.Load{InFlight: 1}, Metrics: numbered(maxReadings + 1)},
	{Load: &sluicepb.Load{InFlight: 1}, Edges: []*sluicepb.Edge{{Upstream: "a"}}},
}

// plain is how many of beats are plain, the first.
const plain = 9

func numbered(n int) map[string]float64 {
	metrics := map[string]float64{}
	for i := range n {
		metrics[fmt.Sprint("m", i)] = float64(i)
	}
	return metrics
}

func TestTheFrequentBeatIsReadOffTheWire(t *testing.T) {
	var p plainBeat
	for i, beat := range beats {
		require.Equal(t, i < plain, p.read(marshal(t, beat)), "%v", beat)
	}
	require.False(t, p.read(nil))
	require.LessOrEqual(t, cap(p.readings), 2*maxReadings)
	for _, beat := range beats[:plain] {
		frequent := marshal(t, beat)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if !p.read(frequent) {
				panic("not read")
			}
		}))
	}
	frequent := marshal(t, beats[0])
	var l letter
	require.NoError(t, proto.Unmarshal(frequent, &l))
	require.Equal(t, frequent, l.bytes())
}

// FuzzReadBeat: what is read as a plain beat, proto.Unmarshal reads the same.
func FuzzReadBeat(f *testing.F) {
	for _, beat := range beats {
		f.Add(marshal(f, beat))
	}
	f.Add(append(marshal(f, beats[0]), marshal(f, beats[2])...))
	f.Add([]byte{0x12, 0x04, 0x12, 0x02, 0x08, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p plainBeat
		if !p.read(b) {
			return
		}
		var up sluicepb.Up
		if err := proto.Unmarshal(b, &up); err != nil || up.GetBeat() == nil || p.loaded != (up.GetBeat().GetLoad() != nil) {
			t.Fatalf("read %x, which is %v, %v", b, &up, err)
		}
		beat := up.GetBeat()
		if len(beat.GetEdges()) > 0 {
			t.Fatalf("left something of %v unread", &up)
		}
		metrics, list := beat.GetMetrics(), metricList(nil).put(p.readings)
		require.Len(t, list, len(metrics))
		for _, m := range list {
			v, ok := metrics[m.name.Value()]
			require.True(t, ok, m.name.Value())
			require.Equal(t, math.Float64bits(v), math.Float64bits(m.value))
		}
		e := &entry{}
		e.ID, e.Report.QueueDepth = "sink", 7
		got, want := p.reportOf(e), reportFromBeat(e, beat)
		want.ServiceID = "sink"
		for _, v := range [...][2]*float64{
			{&got.Load, &want.Load}, {&got.Throughput, &want.Throughput}, {&got.ErrorRate, &want.ErrorRate}, {&got.Fraction, &want.Fraction},
		} {
			if math.Float64bits(*v[0]) != math.Float64bits(*v[1]) {
				t.Fatalf("read %v, want %v", *v[0], *v[1])
			}
			*v[0], *v[1] = 0, 0 // NaN is not equal to itself
		}
		require.Equal(t, want, got)
	})
}

func BenchmarkHotReadBeat(b *testing.B) {
	frequent := marshal(b, beats[0])
	b.ReportAllocs()
	var p plainBeat
	for b.Loop() {
		p.read(frequent)
	}
}

// A session receives into the same letter again and again.
func TestALetterIsReceivedWithoutAllocating(t *testing.T) {
	codec := letterCodec{encoding.GetCodecV2("proto")}
	long := marshal(t, &sluicepb.Beat{Load: &sluicepb.Load{InFlight: 1 << 40, MaxInFlight: 1 << 50, Throughput: 1, ErrorRate: 0.5}})
	short := marshal(t, beats[2])
	var l letter
	in := mem.BufferSlice{nil, nil}
	parts := map[string][2]mem.Buffer{}
	for _, message := range [][]byte{long, short, nil} {
		parts[string(message)] = [2]mem.Buffer{mem.SliceBuffer(message[:len(message)/2]), mem.SliceBuffer(message[len(message)/2:])}
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		for message, halves := range parts {
			in[0], in[1] = halves[0], halves[1]
			if err := codec.Unmarshal(in, &l); err != nil || string(l.bytes()) != message {
				t.Fatalf("received %x, sent %x: %v", l.bytes(), message, err)
			}
		}
	}))
	var up sluicepb.Up
	require.NoError(t, codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(short)}, &up))
	require.EqualValues(t, -1, up.GetBeat().GetLoad().GetInFlight(), "anything else is protobuf's")
}
