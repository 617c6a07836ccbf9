package connpool

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// frame writes an HTTP/2 frame.
func frame(kind, flags byte, payload ...byte) []byte {
	n := len(payload)
	return append([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, 0}, payload...)
}

func setting(id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, id), value)
}

type seen struct {
	settings []uint32 // MaxUint32 where SETTINGS had no limit
	goAways  int
}

func scanIn(pieces ...[]byte) (s seen) {
	f := frameScanner{
		onSettings: func(n uint32, given bool) {
			if !given {
				n = math.MaxUint32
			}
			s.settings = append(s.settings, n)
		},
		onGoAway: func() { s.goAways++ },
	}
	for _, p := range pieces {
		f.scan(p)
	}
	return s
}

func TestFrameScanner(t *testing.T) {
	initial := frame(frameSettings, 0, append(setting(4, 65535), setting(settingStreams, 37)...)...)
	data := frame(0, 0, initial...) // a payload that looks like SETTINGS is none
	for name, c := range map[string]struct {
		bytes []byte
		want  seen
	}{
		"none":              {frame(frameSettings, 0), seen{settings: []uint32{math.MaxUint32}}},
		"a limit":           {initial, seen{settings: []uint32{37}}},
		"an acknowledgment": {frame(frameSettings, flagAck), seen{}},
		"no limit given":    {frame(frameSettings, 0, setting(4, 1)...), seen{settings: []uint32{math.MaxUint32}}},
		"zero":              {frame(frameSettings, 0, setting(settingStreams, 0)...), seen{settings: []uint32{0}}},
		"changed, in other frames": {
			slices.Concat(data, initial, data, frame(frameSettings, 0, setting(settingStreams, 5)...),
				frame(frameGoAway, 0, make([]byte, 8)...)),
			seen{settings: []uint32{37, 5}, goAways: 1},
		},
		"a torn setting": {
			append(frame(frameSettings, 0, 0, 3, 0), initial...),
			seen{settings: []uint32{math.MaxUint32, 37}},
		},
	} {
		require.Equal(t, c.want, scanIn(c.bytes), name)
		for cut := range c.bytes {
			require.Equal(t, c.want, scanIn(c.bytes[:cut], c.bytes[cut:]), "%s, cut at %d", name, cut)
		}
	}
}

// Whatever a server writes, and however it arrives, it is read as the naive
// parser reads it whole, and without a panic.
func FuzzFrameScanner(f *testing.F) {
	f.Add(frame(frameSettings, 0, setting(settingStreams, 100)...), uint8(3))
	f.Add(append(frame(0, 0, 1, 2, 3), frame(frameGoAway, 0)...), uint8(1))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), uint8(7))
	f.Add([]byte{0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 3, 0}, uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		var pieces [][]byte
		for rest := b; len(rest) > 0; {
			n := min(max(int(size), 1), len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		require.Equal(t, modelFrames(b), scanIn(pieces...))
	})
}

// Every message that a server sends passes the scanner.
func TestScanningAllocatesNothing(t *testing.T) {
	f := frameScanner{onSettings: func(uint32, bool) {}, onGoAway: func() {}}
	message := append(frame(frameSettings, 0, setting(settingStreams, 100)...), frame(0, 0, make([]byte, 16<<10)...)...)
	require.Zero(t, testing.AllocsPerRun(100, func() { f.scan(message) }))
}

func BenchmarkHotScan(b *testing.B) {
	f := frameScanner{onSettings: func(uint32, bool) {}, onGoAway: func() {}}
	message := frame(0, 0, make([]byte, 4<<10)...)
	b.ReportAllocs()
	for b.Loop() {
		f.scan(message)
	}
}
