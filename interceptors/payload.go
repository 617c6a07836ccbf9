package interceptors

import (
	"encoding/binary"
	"math"
)

// Kind says what one FlightData carries.
type Kind uint8

const (
	// KindNone is a message without a data header: metadata alone, or no FlightData at all.
	KindNone Kind = iota
	// KindSchema opens a stream.
	KindSchema
	// KindDictionary carries dictionary values. A batch may need several, so they are no batches.
	KindDictionary
	// KindRecordBatch is the only kind that is counted as a message in flight.
	KindRecordBatch
	// KindOther is a tensor or anything later than this code.
	KindOther
)

var kindNames = [...]string{"none", "schema", "dictionary", "record_batch", "other"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "invalid"
}

// A Payload is what [Peek] read of one FlightData. Sizes are bytes.
type Payload struct {
	Kind Kind
	// Rows is the batch's own claim, never negative.
	Rows int64
	// Bytes is what is there: header, body and application metadata.
	Bytes int64
	// Uncompressed is what the body says that it takes when it is decoded, a
	// claim of the sender: a decoder that trusts it allocates this much. Where
	// nothing is compressed it is the body's length.
	Uncompressed int64
	// Compressed is set when the batch says that its buffers are compressed.
	Compressed bool
	// Malformed is set when the header breaks the format: what it claims is not to be believed.
	Malformed bool
}

// flightData is how a FlightData is seen: by its getters. An interface instead
// of arrow-go's type, so that every generation of the Flight protocol's code
// works, and so that this package links no Arrow.
type flightData interface {
	GetDataHeader() []byte
	GetDataBody() []byte
	GetAppMetadata() []byte
}

// Peek reads what m, a FlightData of any code generation, carries: without
// decoding it, without allocating, and without believing it: every offset is
// checked against the header's end. It reports false when m is no FlightData.
func Peek(m any) (Payload, bool) {
	fd, ok := m.(flightData)
	if !ok {
		return Payload{}, false
	}
	return peek(fd.GetDataHeader(), fd.GetDataBody(), len(fd.GetAppMetadata())), true
}

// The layout is Message.fbs of the Arrow format: a Message has header_type in
// field 1 and the header in field 2. A RecordBatch has length in field 0,
// buffers in field 2 and compression in field 3. A DictionaryBatch has its
// RecordBatch in field 1.
func peek(header, body []byte, metadata int) Payload {
	p := Payload{Bytes: int64(len(header)) + int64(len(body)) + int64(metadata), Uncompressed: int64(len(body))}
	if len(header) == 0 {
		return p
	}
	message, ok := rootTable(header)
	if !ok {
		p.Malformed, p.Kind = true, KindOther
		return p
	}
	var headerType byte
	if at := message.field(1); at != 0 && at < len(header) {
		headerType = header[at]
	}
	switch headerType {
	case 1:
		p.Kind = KindSchema
		return p
	case 2:
		p.Kind = KindDictionary
	case 3:
		p.Kind = KindRecordBatch
	default:
		p.Kind = KindOther
		return p
	}
	batch, ok := message.child(2)
	if ok && headerType == 2 {
		batch, ok = batch.child(1)
	}
	if !ok {
		p.Malformed = true
		return p
	}
	p.readBatch(batch, body)
	return p
}

func (p *Payload) readBatch(batch table, body []byte) {
	buf := batch.buf
	if at := batch.field(0); at != 0 {
		if at+8 > len(buf) {
			p.Malformed = true
			return
		}
		rows := int64(binary.LittleEndian.Uint64(buf[at:]))
		if rows < 0 {
			p.Malformed, rows = true, 0
		}
		if p.Kind == KindRecordBatch {
			p.Rows = rows
		}
	}
	if batch.field(3) == 0 {
		return
	}
	p.Compressed = true
	first, count, ok := batch.structs(2, 16)
	if !ok {
		p.Malformed = true
		return
	}
	p.Uncompressed = p.claims(buf[first:first+16*count], body)
}

// claims sums what each compressed buffer says in its first eight bytes: the
// length that it will take, or -1 for a buffer that was left as it is.
func (p *Payload) claims(buffers, body []byte) int64 {
	total := int64(0)
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
		claim := int64(binary.LittleEndian.Uint64(body[offset:]))
		switch {
		case claim == -1:
			claim = length - 8
		case claim < 0:
			p.Malformed = true
			continue
		}
		if total += claim; total < 0 {
			return math.MaxInt64
		}
	}
	return total
}

// A table is a flatbuffers table: pos is where it starts, vtable and size where
// its field offsets are.
type table struct {
	buf         []byte
	pos, vtable int
	size        int
}

func rootTable(buf []byte) (table, bool) {
	if len(buf) < 4 {
		return table{}, false
	}
	return tableAt(buf, uint64(binary.LittleEndian.Uint32(buf)))
}

func tableAt(buf []byte, at uint64) (table, bool) {
	if at+4 > uint64(len(buf)) {
		return table{}, false
	}
	pos := int(at)
	vtable := int64(pos) - int64(int32(binary.LittleEndian.Uint32(buf[pos:])))
	if vtable < 0 || vtable+4 > int64(len(buf)) {
		return table{}, false
	}
	size := int(binary.LittleEndian.Uint16(buf[vtable:]))
	if size < 4 || int(vtable)+size > len(buf) {
		return table{}, false
	}
	return table{buf: buf, pos: pos, vtable: int(vtable), size: size}, true
}

// field returns where the field is, 0 when it is absent. The caller checks the
// end of what it reads there.
func (t table) field(i int) int {
	entry := 4 + 2*i
	if entry+2 > t.size {
		return 0
	}
	offset := int(binary.LittleEndian.Uint16(t.buf[t.vtable+entry:]))
	if offset == 0 {
		return 0
	}
	return t.pos + offset
}

// follow returns what the offset stored in the field points at.
func (t table) follow(i int) (uint64, bool) {
	at := t.field(i)
	if at == 0 || at+4 > len(t.buf) {
		return 0, false
	}
	return uint64(at) + uint64(binary.LittleEndian.Uint32(t.buf[at:])), true
}

func (t table) child(i int) (table, bool) {
	at, ok := t.follow(i)
	if !ok {
		return table{}, false
	}
	return tableAt(t.buf, at)
}

// structs returns the first byte and the number of the structs in a vector.
func (t table) structs(i, size int) (first, count int, ok bool) {
	at, ok := t.follow(i)
	if !ok {
		return 0, 0, t.field(i) == 0 // no vector at all is an empty one
	}
	if at+4 > uint64(len(t.buf)) {
		return 0, 0, false
	}
	n := uint64(binary.LittleEndian.Uint32(t.buf[at:]))
	if at+4+n*uint64(size) > uint64(len(t.buf)) {
		return 0, 0, false
	}
	return int(at + 4), int(n), true
}
