package connpool

import "encoding/binary"

// HTTP/2's frames, as far as the pool reads them (RFC 9113, sections 4.1, 6.5, 6.8).
const (
	frameHeaderSize = 9
	settingSize     = 6
	frameSettings   = 0x4
	frameGoAway     = 0x7
	flagAck         = 0x1
	settingStreams  = 0x3 // SETTINGS_MAX_CONCURRENT_STREAMS
)

// A frameScanner follows the frames in a server's bytes, however they are cut
// into reads. It passes over every payload but that of SETTINGS, keeps nine
// bytes, and allocates nothing. gRPC judges whether the bytes are HTTP/2 at all;
// the scanner only never fails on them.
type frameScanner struct {
	onSettings func(maxStreams uint32, given bool)
	onGoAway   func()

	buf      [frameHeaderSize]byte // a header, or a setting, that is not complete
	have     int                   // bytes of it
	left     int                   // bytes of the payload still to come
	settings bool                  // the payload is that of SETTINGS
	streams  uint32                // its limit
	given    bool                  // it has one
}

func (f *frameScanner) scan(b []byte) {
	for len(b) > 0 {
		switch {
		case f.left > 0 && f.settings:
			n := copy(f.buf[f.have:min(settingSize, f.have+f.left)], b)
			b, f.have, f.left = b[n:], f.have+n, f.left-n
			if f.have == settingSize {
				f.have = 0
				if binary.BigEndian.Uint16(f.buf[:]) == settingStreams {
					f.streams, f.given = binary.BigEndian.Uint32(f.buf[2:]), true
				}
			}
			if f.left == 0 {
				f.endSettings()
			}
		case f.left > 0:
			n := min(f.left, len(b))
			b, f.left = b[n:], f.left-n
		default:
			n := copy(f.buf[f.have:], b)
			if b, f.have = b[n:], f.have+n; f.have == frameHeaderSize {
				f.have = 0
				f.begin()
			}
		}
	}
}

// begin reads a frame's header.
func (f *frameScanner) begin() {
	f.left = int(f.buf[0])<<16 | int(f.buf[1])<<8 | int(f.buf[2])
	kind, flags := f.buf[3], f.buf[4]
	f.settings = kind == frameSettings && flags&flagAck == 0
	f.streams, f.given = 0, false
	switch {
	case kind == frameGoAway:
		f.onGoAway()
	case f.settings && f.left == 0:
		f.endSettings()
	}
}

func (f *frameScanner) endSettings() {
	f.settings, f.have = false, 0
	f.onSettings(f.streams, f.given)
}
