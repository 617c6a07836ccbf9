package payload

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
)

// encodeColumn returns the record batch of one int64 column, as arrow-go writes it.
func encodeColumn(tb testing.TB, values []int64, opts ...ipc.Option) *flight.FlightData {
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(values, nil)
	column := b.NewArray()
	defer column.Release()
	record := array.NewRecordBatch(schema, []arrow.Array{column}, int64(len(values)))
	defer record.Release()
	last := &lastSent{}
	w := flight.NewRecordWriter(last, append([]ipc.Option{ipc.WithSchema(schema)}, opts...)...)
	require.NoError(tb, w.Write(record))
	require.NoError(tb, w.Close())
	return last.m
}

type lastSent struct{ m *flight.FlightData }

func (l *lastSent) Send(m *flight.FlightData) error {
	l.m = &flight.FlightData{DataHeader: slices.Clone(m.DataHeader), DataBody: slices.Clone(m.DataBody)}
	return nil
}

// withFrame returns m, whose only buffer is its values', with other compressed bytes.
func withFrame(tb testing.TB, m *flight.FlightData, claim int64, frame []byte) *flight.FlightData {
	body := append(binary.LittleEndian.AppendUint64(nil, uint64(claim)), frame...)
	header := slices.Clone(m.DataHeader)
	message := int(binary.LittleEndian.Uint32(header))
	batch := childOf(header, message, fieldOf(vtableOf(header, message), 2))
	n, at, ok := vectorOf(header, batch, fieldOf(vtableOf(header, batch), 2), 16)
	require.True(tb, ok)
	binary.LittleEndian.PutUint64(header[at+16*(n-1)+8:], uint64(len(body)))
	return &flight.FlightData{DataHeader: header, DataBody: body}
}

// zstd returns a frame of one raw block, with what its header says.
func zstd(descriptor byte, fields []byte, content []byte) []byte {
	frame := append([]byte{0x28, 0xb5, 0x2f, 0xfd, descriptor}, fields...)
	header := uint32(len(content))<<3 | 1
	frame = append(frame, byte(header), byte(header>>8), byte(header>>16))
	return append(frame, content...)
}

// lz4 returns a frame of one block that is not compressed.
func lz4(flags, block byte, fields []byte, content []byte) []byte {
	frame := append([]byte{0x04, 0x22, 0x4d, 0x18, flags, block}, fields...)
	frame = append(frame, 0) // the header's checksum, which is not looked at
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(content))|1<<31)
	return append(append(frame, content...), 0, 0, 0, 0)
}

// What the fields of a bomb say: that it breaks the format, or what it takes.
const (
	malformed = "malformed"
	large     = "more than 4 MiB"
	huge      = "more than 256 MiB"
)

// What a decoder would believe and allocate is found before it is decoded,
// whichever field says it.
func TestBombsInEveryField(t *testing.T) {
	values := make([]byte, 800)
	eight := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
	zs := encodeColumn(t, make([]int64, 100), ipc.WithZstd())
	lz := encodeColumn(t, make([]int64, 100), ipc.WithLZ4())
	honest := zstd(0, []byte{13 << 3}, values)
	for name, test := range map[string]struct {
		m    *flight.FlightData
		want string // "" passes
	}{
		"honest zstd":               {withFrame(t, zs, 800, honest), ""},
		"honest zstd, content size": {withFrame(t, zs, 800, zstd(2<<6|1<<5, []byte{0x20, 3, 0, 0}, values)), ""},
		"honest zstd, padded":       {withFrame(t, zs, 800, append(slices.Clone(honest), make([]byte, 7)...)), ""},
		"two zstd frames": {
			withFrame(t, zs, 800, append(zstd(0, []byte{13 << 3}, values[:400]), zstd(0, []byte{13 << 3}, values[:400])...)), "",
		},
		"zstd after a skippable frame": {
			withFrame(t, zs, 800, append([]byte{0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9}, honest...)), "",
		},
		"zstd, 512 MiB window": {withFrame(t, zs, 800, zstd(0, []byte{19 << 3}, values)), huge},
		"zstd, largest window": {withFrame(t, zs, 800, zstd(0, []byte{0xff}, values)), huge},
		"zstd, 128 MiB window": {withFrame(t, zs, 800, zstd(0, []byte{17 << 3}, values)), large},
		"zstd, window of a later frame": {
			withFrame(t, zs, 800, append(slices.Clone(honest), zstd(0, []byte{19 << 3}, values)...)), huge,
		},
		"zstd, window after a skip": {
			withFrame(t, zs, 800, append([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, zstd(0, []byte{19 << 3}, values)...)),
			huge,
		},
		"zstd, window, nothing claimed": {withFrame(t, zs, 0, zstd(0, []byte{19 << 3}, nil)), huge},
		"zstd, content size":            {withFrame(t, zs, 800, zstd(3<<6|1<<5, eight(512<<20), values)), malformed},
		"zstd, content size and window": {
			withFrame(t, zs, 800, zstd(3<<6, append([]byte{13 << 3}, eight(1<<62)...), values)), malformed,
		},
		"zstd, dictionary":   {withFrame(t, zs, 800, zstd(1, []byte{13 << 3, 7}, values)), malformed},
		"zstd, reserved bit": {withFrame(t, zs, 800, zstd(1<<3, []byte{13 << 3}, values)), malformed},
		"zstd, block too large": {
			withFrame(t, zs, 800, zstd(0, []byte{13 << 3}, make([]byte, 128<<10+1))), malformed,
		},
		"zstd, cut off":  {withFrame(t, zs, 800, honest[:len(honest)-1]), malformed},
		"zstd, no frame": {withFrame(t, zs, 800, values), malformed},
		"zstd, skip past the end": {
			withFrame(t, zs, 800, []byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff}), malformed,
		},
		"honest LZ4":               {withFrame(t, lz, 800, lz4(1<<6, 4<<4, nil, values)), ""},
		"honest LZ4, content size": {withFrame(t, lz, 800, lz4(1<<6|1<<3, 7<<4, eight(800), values)), ""},
		"LZ4, content size":        {withFrame(t, lz, 800, lz4(1<<6|1<<3, 4<<4, eight(1<<40), values)), malformed},
		"LZ4, dictionary": {
			withFrame(t, lz, 800, lz4(1<<6|1, 4<<4, []byte{1, 2, 3, 4}, values)), malformed,
		},
		"LZ4, block size": {withFrame(t, lz, 800, lz4(1<<6, 3<<4, nil, values)), malformed},
		"LZ4, block too large": {
			withFrame(t, lz, 800, lz4(1<<6, 4<<4, nil, make([]byte, 64<<10+1))), malformed,
		},
		"LZ4, legacy": {
			withFrame(t, lz, 800, append([]byte{0x02, 0x21, 0x4c, 0x18}, values...)), malformed,
		},
		"LZ4 that is zstd": {withFrame(t, lz, 800, honest), malformed},
	} {
		t.Run(name, func(t *testing.T) {
			p, ok := Peek(test.m)
			require.True(t, ok)
			needs := p.Uncompressed + min(p.Excess, math.MaxInt64-p.Uncompressed)
			got := ""
			switch {
			case needs > 256<<20:
				got = huge
			case p.Malformed:
				got = malformed
			case needs > 4<<20:
				got = large
			default:
				require.EqualValues(t, 800, p.Uncompressed)
				require.Zero(t, p.Excess)
			}
			require.Equal(t, test.want, got, "%+v", p)
		})
	}
}

// The frames of arrow-go's encoders pass, whatever they hold.
func TestFramesOfArrowPass(t *testing.T) {
	for _, n := range []int{0, 1, 100, 16 << 10, 100_000, 1 << 20} {
		noise := make([]int64, n)
		for i := range noise {
			noise[i] = int64(i) * 0x5851f42d4c957f2d
		}
		for _, values := range [][]int64{make([]int64, n), noise} {
			for _, option := range []ipc.Option{ipc.WithZstd(), ipc.WithLZ4()} {
				p, _ := Peek(encodeColumn(t, values, option))
				require.False(t, p.Malformed, "%d: %+v", n, p)
				require.Zero(t, p.Excess)
				require.EqualValues(t, 8*n, p.Uncompressed)
			}
		}
	}
}

// Many buffers that are the same bytes are not read many times.
func TestOverlappingBuffersAreMalformed(t *testing.T) {
	body := append(binary.LittleEndian.AppendUint64(nil, 800), zstd(0, []byte{13 << 3}, make([]byte, 800))...)
	var buffers []byte
	for range 3 {
		buffers = binary.LittleEndian.AppendUint64(buffers, 0)
		buffers = binary.LittleEndian.AppendUint64(buffers, uint64(len(body)))
	}
	var p Payload
	require.EqualValues(t, 800, p.claims(buffers, body, codecZstd))
	require.True(t, p.Malformed)
}

// A view column says how many buffers it has, and arrow-go makes a slice of so many.
func TestVariadicCountsAreChecked(t *testing.T) {
	b := array.NewStringViewBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.Append("a string that is longer than twelve bytes, and so has a buffer")
	column := b.NewArray()
	defer column.Release()
	schema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.BinaryTypes.StringView}}, nil)
	record := array.NewRecordBatch(schema, []arrow.Array{column}, 1)
	defer record.Release()
	last := &lastSent{}
	w := flight.NewRecordWriter(last, ipc.WithSchema(schema))
	require.NoError(t, w.Write(record))
	require.NoError(t, w.Close())
	m := last.m
	p, _ := Peek(m)
	require.False(t, p.Malformed)

	message := int(binary.LittleEndian.Uint32(m.DataHeader))
	batch := childOf(m.DataHeader, message, fieldOf(vtableOf(m.DataHeader, message), 2))
	n, at, ok := vectorOf(m.DataHeader, batch, fieldOf(vtableOf(m.DataHeader, batch), 4), 8)
	require.True(t, ok)
	require.Equal(t, 1, n)
	for _, count := range []uint64{1 << 40, 1 << 63, 1000} {
		binary.LittleEndian.PutUint64(m.DataHeader[at:], count)
		p, _ = Peek(m)
		require.True(t, p.Malformed, count)
	}
}

func FuzzFrames(f *testing.F) {
	for _, m := range []*flight.FlightData{
		encodeColumn(f, make([]int64, 100), ipc.WithZstd()), encodeColumn(f, make([]int64, 30_000), ipc.WithZstd()),
		encodeColumn(f, make([]int64, 100), ipc.WithLZ4()), encodeColumn(f, make([]int64, 30_000), ipc.WithLZ4()),
	} {
		f.Add(m.DataBody[8:], int64(1<<20))
	}
	f.Add(zstd(0, []byte{0xff}, nil), int64(0))
	f.Add(lz4(1<<6|1<<4|1<<2, 7<<4, nil, []byte{1}), int64(1))
	f.Fuzz(func(t *testing.T, b []byte, claim int64) {
		for codec := range byte(3) {
			window, ok := readFrames(codec, b, max(claim, 0))
			if window < 0 || window > 1<<42 || ok && len(b) > 0 && codec == codecLZ4 && window > 4<<20 {
				t.Fatalf("window %d", window)
			}
		}
	})
}
