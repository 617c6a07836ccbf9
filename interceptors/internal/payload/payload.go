package payload

import (
	"encoding/binary"
	"math"
)

// Kind says what one FlightData carries.
type Kind uint8

const (
	// None is a message without a data header: metadata alone, or no FlightData at all.
	None Kind = iota
	// Schema opens a stream.
	Schema
	// Dictionary carries dictionary values. A batch may need several, so they are no batches.
	Dictionary
	// RecordBatch is the only kind that is counted as a message in flight.
	RecordBatch
	// Other is a tensor or anything later than this code.
	Other
)

// maxRows is the longest array that Arrow's format recommends. A batch of null
// columns has rows without bytes, so a claim cannot be told from the truth; this
// keeps a false one from filling what is counted in 64 bits.
const maxRows = math.MaxInt32

// A Payload is what [Peek] read of one FlightData. Sizes are bytes.
type Payload struct {
	Kind Kind
	// Rows is the batch's own claim, never negative, and 2^31-1 where it claims more.
	Rows int64
	// Bytes is what is there: header, body and application metadata; Body is the
	// body alone.
	Bytes, Body int64
	// Uncompressed is what the body says that it takes when it is decoded, a
	// claim of the sender: a decoder that trusts it allocates this much. Where
	// nothing is compressed it is the body's length.
	Uncompressed int64
	// Excess is how much more the decompressor says that it needs: the largest
	// window of a zstd frame, where that is more than its buffer's claim and more
	// than the 8 MiB that every decoder has to allow (RFC 8878, 3.1.1.1.2).
	// Decoders allocate it before they have seen any data.
	Excess int64
	// Compressed is set when the batch says that its buffers are compressed.
	Compressed bool
	// Malformed is set when the header, or a compressed frame, breaks the format:
	// what it claims is not to be believed.
	Malformed bool
}

// FlightData is how a FlightData is seen: by its getters. An interface instead
// of arrow-go's type, so that every generation of the Flight protocol's code
// works, and so that this package links no Arrow.
type FlightData interface {
	GetDataHeader() []byte
	GetDataBody() []byte
	GetAppMetadata() []byte
}

// Peek reads what m, a FlightData of any code generation, carries: without
// decoding it, without allocating, and without believing it: every offset is
// checked against the header's end. It reports false when m is no FlightData.
func Peek(m any) (Payload, bool) {
	fd, ok := m.(FlightData)
	if !ok {
		return Payload{}, false
	}
	var p Payload
	p.Read(fd)
	return p, true
}

// Read fills in p, which is zero, where it stands: as a result it would be copied.
//
// The layout is Message.fbs of the Arrow format: a Message has header_type in
// field 1 and the header in field 2. A RecordBatch has length in field 0,
// buffers in field 2 and compression in field 3. A DictionaryBatch has its
// RecordBatch in field 1. Offsets are plain ints into one slice, and every one
// is checked where it is used: this runs for each message, so it makes no
// objects of tables.
func (p *Payload) Read(fd FlightData) {
	header, body := fd.GetDataHeader(), fd.GetDataBody()
	p.Bytes = int64(len(header)) + int64(len(body)) + int64(len(fd.GetAppMetadata()))
	p.Body, p.Uncompressed = int64(len(body)), int64(len(body))
	if len(header) < 4 {
		p.Malformed = len(header) > 0
		return
	}
	message := int(binary.LittleEndian.Uint32(header))
	vtable := vtableOf(header, message)
	if vtable == nil {
		p.Malformed, p.Kind = true, Other
		return
	}
	at := message + fieldOf(vtable, 1)
	if at == message || at >= len(header) {
		p.Kind = Other
		return
	}
	switch header[at] {
	case 1:
		p.Kind = Schema
		return
	case 2:
		p.Kind = Dictionary
	case 3:
		p.Kind = RecordBatch
	default:
		p.Kind = Other
		return
	}
	batch := childOf(header, message, fieldOf(vtable, 2))
	vtable = vtableOf(header, batch)
	if p.Kind == Dictionary && vtable != nil {
		batch = childOf(header, batch, fieldOf(vtable, 1))
		vtable = vtableOf(header, batch)
	}
	if vtable == nil {
		p.Malformed = true
		return
	}
	if f := fieldOf(vtable, 0); f != 0 {
		if batch+f+8 > len(header) {
			p.Malformed = true
			return
		}
		rows := int64(binary.LittleEndian.Uint64(header[batch+f:]))
		switch {
		case rows < 0:
			p.Malformed = true
		case p.Kind == RecordBatch:
			p.Rows = min(rows, maxRows)
		}
	}
	if f := fieldOf(vtable, 4); f != 0 && !variadicOf(header, batch, f, fieldOf(vtable, 2)) {
		p.Malformed = true
	}
	if f := fieldOf(vtable, 3); f != 0 {
		p.readCompressed(header, body, batch, fieldOf(vtable, 2), codecOf(header, childOf(header, batch, f)))
	}
}

// vectorOf returns how many elements of so many bytes the vector in a field has,
// and where they start. It reports false when it does not fit the header.
func vectorOf(b []byte, pos, field, size int) (n, at int, ok bool) {
	at = childOf(b, pos, field)
	if at < 0 || at+4 > len(b) {
		return 0, 0, false
	}
	n = int(binary.LittleEndian.Uint32(b[at:]))
	at += 4
	return n, at, n >= 0 && n <= (len(b)-at)/size
}

// variadicOf checks the counts of variadic buffers, by which a decoder makes its
// slices: together they are no more than the buffers that there are.
func variadicOf(header []byte, batch, counts, buffers int) bool {
	n, at, ok := vectorOf(header, batch, counts, 8)
	if !ok {
		return false
	}
	left := 0
	if buffers != 0 {
		if left, _, ok = vectorOf(header, batch, buffers, 16); !ok {
			return false
		}
	}
	for ; n > 0; n, at = n-1, at+8 {
		count := binary.LittleEndian.Uint64(header[at:])
		if count > uint64(left) {
			return false
		}
		left -= int(count)
	}
	return true
}

// codecOf returns the codec of the BodyCompression table at pos: 0 is LZ4, 1 is zstd.
func codecOf(header []byte, pos int) byte {
	f := fieldOf(vtableOf(header, pos), 0)
	if f == 0 || pos+f >= len(header) {
		return 0
	}
	return header[pos+f]
}

// readCompressed sums what the buffers say that they take when decoded.
func (p *Payload) readCompressed(header, body []byte, batch, buffers int, codec byte) {
	p.Compressed = true
	if buffers == 0 {
		p.Uncompressed = 0 // no vector of buffers is an empty one
		return
	}
	n, at, ok := vectorOf(header, batch, buffers, 16)
	if !ok {
		p.Malformed = true
		return
	}
	p.Uncompressed = p.claims(header[at:at+16*n], body, codec)
}

// claims sums what each compressed buffer says in its first eight bytes: the
// length that it will take, or -1 for a buffer that was left as it is. Then
// follow frames of the codec, which are checked too: a decoder believes their
// headers. Buffers that overlap are not read twice, and are malformed.
func (p *Payload) claims(buffers, body []byte, codec byte) int64 {
	total, left := int64(0), int64(len(body))
	for ; len(buffers) >= 16; buffers = buffers[16:] {
		offset := int64(binary.LittleEndian.Uint64(buffers))
		length := int64(binary.LittleEndian.Uint64(buffers[8:]))
		if length == 0 {
			continue
		}
		if offset < 0 || length < 8 || offset > int64(len(body)) || length > int64(len(body))-offset {
			p.Malformed = true
			continue
		}
		if left -= length; left < 0 {
			p.Malformed = true
			return total
		}
		claim := int64(binary.LittleEndian.Uint64(body[offset:]))
		switch {
		case claim == -1:
			claim = length - 8
		case claim < 0:
			p.Malformed = true
			continue
		default:
			window, ok := readFrames(codec, body[offset+8:offset+length], claim)
			p.Malformed = p.Malformed || !ok
			if window > max(claim, freeWindow) {
				p.Excess = max(p.Excess, window-claim)
			}
		}
		if total += claim; total < 0 {
			return math.MaxInt64
		}
	}
	return total
}

// vtableOf returns the vtable of the table at pos, which has its own size in its
// first two bytes, or nil when there is no table.
func vtableOf(b []byte, pos int) []byte {
	if uint(pos) >= uint(len(b)) || len(b)-pos < 4 {
		return nil
	}
	at := pos - int(int32(binary.LittleEndian.Uint32(b[pos:])))
	if uint(at) >= uint(len(b)) {
		return nil
	}
	b = b[at:]
	if len(b) < 4 {
		return nil
	}
	size := int(binary.LittleEndian.Uint16(b))
	if size < 4 || size > len(b) {
		return nil
	}
	return b[:size]
}

// fieldOf returns the offset of field i in its table, 0 when it is absent.
func fieldOf(vtable []byte, i int) int {
	at := 4 + 2*i
	if at+2 > len(vtable) {
		return 0
	}
	return int(binary.LittleEndian.Uint16(vtable[at:]))
}

// childOf returns where the offset in a field of the table at pos points to, -1 when nowhere.
func childOf(b []byte, pos, field int) int {
	if field == 0 || pos+field+4 > len(b) {
		return -1
	}
	return pos + field + int(binary.LittleEndian.Uint32(b[pos+field:]))
}
