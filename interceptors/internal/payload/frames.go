package payload

import "encoding/binary"

// freeWindow is what a zstd frame may ask for whatever it holds: encoders that do
// not know the length beforehand, such as arrow-go's, ask for up to 8 MiB.
const freeWindow = 8 << 20

const (
	codecLZ4  = 0
	codecZstd = 1
)

// readFrames reads the headers of the frames that a compressed buffer consists
// of, and returns the largest window that a decoder would allocate for them. It
// reports false when they break the format, use a dictionary, which Arrow does
// not have, or hold more than the buffer's claim. It decodes nothing. A codec
// that it does not know is let through: no decoder is known to know it.
func readFrames(codec byte, b []byte, claim int64) (window int64, ok bool) {
	for first := true; len(b) > 0; first = false {
		if skip, isSkip, ok := skippable(b); isSkip {
			if !ok {
				return window, false
			}
			b = b[skip:]
			continue
		}
		var n int
		var w int64
		switch codec {
		case codecLZ4:
			n, w = lz4Frame(b, claim)
		case codecZstd:
			n, w = zstdFrame(b, claim)
		default:
			return 0, true
		}
		window = max(window, w)
		switch {
		case n > 0:
			b = b[n:]
		case n == noFrame && !first: // padding
			return window, true
		default:
			return window, false
		}
	}
	return window, true
}

// Lengths of what is no frame.
const (
	noFrame  = 0
	badFrame = -1
)

// skippable returns the length of a skippable frame, which both formats have.
func skippable(b []byte) (n int, isSkip, ok bool) {
	if len(b) < 4 || binary.LittleEndian.Uint32(b)&^0xf != 0x184d2a50 {
		return 0, false, false
	}
	if len(b) < 8 {
		return 0, true, false
	}
	size := binary.LittleEndian.Uint32(b[4:])
	return 8 + int(size), true, uint64(size) <= uint64(len(b)-8)
}

const maxZstdBlock = 128 << 10

// zstdFrame returns the length of the frame that b starts with, and its window:
// RFC 8878, 3.1.1.
func zstdFrame(b []byte, claim int64) (n int, window int64) {
	if len(b) < 6 || binary.LittleEndian.Uint32(b) != 0xfd2fb528 {
		return noFrame, 0
	}
	// Frame_Header_Descriptor: two bits for the size of the content's size, one each
	// for a single segment, unused, reserved, a checksum; two for a dictionary.
	descriptor, at := b[4], 5
	if descriptor&(1<<3) != 0 || descriptor&3 != 0 { // reserved, or with a dictionary
		return badFrame, 0
	}
	single := descriptor&(1<<5) != 0
	// Window_Descriptor: an exponent in the upper five bits, a mantissa in the lower
	// three. A single segment has none; its window is its content.
	if !single {
		base := int64(1) << (10 + b[at]>>3)
		window = base + base/8*int64(b[at]&7)
		at++
	}
	size := 0 // of the field for the content's size
	if code := descriptor >> 6; code > 0 {
		size = 1 << code
	} else if single {
		size = 1
	}
	if at+size > len(b) {
		return badFrame, window
	}
	if size > 0 {
		var field [8]byte
		copy(field[:], b[at:at+size])
		content := binary.LittleEndian.Uint64(field[:])
		if size == 2 {
			content += 256 // a field of two bytes starts where that of one ends
		}
		if content > uint64(claim) {
			return badFrame, window
		}
		if single {
			window = int64(content)
		}
		at += size
	}
	for last := false; !last; {
		if at+3 > len(b) {
			return badFrame, window
		}
		// Block_Header: one bit says last, two the type, the rest the size.
		header := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
		at += 3
		last = header&1 != 0
		block := header >> 3
		if block > maxZstdBlock {
			return badFrame, window
		}
		switch header >> 1 & 3 {
		case 0, 2: // raw, compressed
		case 1: // one byte, repeated
			block = 1
		default:
			return badFrame, window
		}
		if at += block; at > len(b) {
			return badFrame, window
		}
	}
	if descriptor&(1<<2) != 0 {
		at += 4 // checksum
	}
	if at > len(b) {
		return badFrame, window
	}
	return at, window
}

// lz4Frame does the same for LZ4, whose decoders allocate blocks, of 4 MiB at
// most: "LZ4 Frame Format Description" 1.6.4. Its legacy frames are none of Arrow's.
func lz4Frame(b []byte, claim int64) (n int, block int64) {
	if len(b) < 7 || binary.LittleEndian.Uint32(b) != 0x184d2204 {
		return noFrame, 0
	}
	// FLG: two bits of version, then independence of blocks, their checksums, the
	// content's size, its checksum, reserved, a dictionary. BD: the block's size.
	flags, id, at := b[4], b[5]>>4&7, 6
	if flags>>6 != 1 || flags&1 != 0 || id < 4 { // version, dictionary, block size
		return badFrame, 0
	}
	block = 1 << (8 + 2*int(id))
	if flags&(1<<3) != 0 {
		if at+8 > len(b) || binary.LittleEndian.Uint64(b[at:]) > uint64(claim) {
			return badFrame, block
		}
		at += 8
	}
	at++ // checksum of the header
	for {
		if at+4 > len(b) {
			return badFrame, block
		}
		// The highest bit says that the block is not compressed. A size of 0 is the end.
		size := int64(binary.LittleEndian.Uint32(b[at:]) &^ (1 << 31))
		at += 4
		if size == 0 {
			break
		}
		if size > block || size > int64(len(b)-at) {
			return badFrame, block
		}
		at += int(size)
		if flags&(1<<4) != 0 {
			at += 4 // checksum of the block
		}
	}
	if flags&(1<<2) != 0 {
		at += 4 // checksum of the content
	}
	if at > len(b) {
		return badFrame, block
	}
	return at, block
}
