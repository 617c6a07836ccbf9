package ledgers

import (
	"bytes"
	"context"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/stellar/go-stellar-sdk/network"
	"github.com/stellar/go-stellar-sdk/xdr"
)

// SampleFirst is the sequence of the first ledger of every [Sample].
const SampleFirst uint32 = 53312000

//go:embed data/*.xdr.zst
var sampleFiles embed.FS

// sampleTemplates are the shipped ledgers in the order of their replay. They
// are unpacked once (1.7 MB) and never written to.
var sampleTemplates = sync.OnceValues(func() ([]template, error) {
	templates := make([]template, 0, 2)
	for _, seq := range []uint32{SampleFirst, 58752000} {
		t, err := loadTemplate(seq)
		if err != nil {
			return nil, fmt.Errorf("ledgers: shipped ledger: %w", err)
		}
		templates = append(templates, t)
	}
	return templates, nil
})

// Sample replays two real ledgers of the public network in turn: 53312000
// (163 transactions) and 58752000 (249 transactions), with their sequences
// rewritten from [SampleFirst] upwards.
//
// Only the sequence in the ledger header changes, so the SDK's readers see a
// gapless chain of sequences; hashes, close times and transactions stay those
// of the original ledgers and therefore repeat. The header's hash is not
// computed anew: a chain of hashes would make each ledger depend on all before.
type Sample struct {
	bounds    Range
	templates []template
}

var _ Source = (*Sample)(nil)

// NewSample returns a source of n ledgers, at least 1.
func NewSample(n uint32) (*Sample, error) {
	if n == 0 || n > math.MaxUint32-SampleFirst {
		return nil, fmt.Errorf("ledgers: sample of %d ledgers: want 1 to %d", n, math.MaxUint32-SampleFirst)
	}
	templates, err := sampleTemplates()
	if err != nil {
		return nil, err
	}
	return &Sample{bounds: Range{SampleFirst, SampleFirst + n - 1}, templates: templates}, nil
}

// Info says that the ledgers are a replay.
func (s *Sample) Info() Info {
	return Info{
		Kind:       "sample",
		Passphrase: network.PublicNetworkPassphrase,
		Note: fmt.Sprintf("replaying the public network's ledgers 53312000 and 58752000 in turn, with sequences rewritten to %v",
			s.bounds),
	}
}

// Bounds returns the range that NewSample was asked for.
func (s *Sample) Bounds(context.Context) (Range, error) { return s.bounds, nil }

// Ledgers yields the replay. Every call patches copies of its own, so streams
// do not disturb each other.
func (s *Sample) Ledgers(ctx context.Context, r Range) iter.Seq2[Ledger, error] {
	if err := CheckBounds(r, s.bounds); err != nil {
		return failed(err)
	}
	return func(yield func(Ledger, error) bool) {
		copies := make([]template, len(s.templates))
		for i, t := range s.templates {
			copies[i] = template{raw: bytes.Clone(t.raw), offset: t.offset}
		}
		for seq := r.First; ; seq++ {
			if err := context.Cause(ctx); err != nil {
				yield(Ledger{}, err)
				return
			}
			raw := copies[(seq-SampleFirst)%uint32(len(copies))].at(seq)
			if !yield(Ledger{Sequence: seq, Raw: raw}, nil) || seq == r.Last {
				return
			}
		}
	}
}

// template is a ledger whose sequence can be changed in place.
type template struct {
	raw    []byte
	offset int // of the four bytes of the header's sequence
}

// at writes seq into the template and returns its bytes.
func (t template) at(seq uint32) []byte {
	binary.BigEndian.PutUint32(t.raw[t.offset:], seq)
	return t.raw
}

func loadTemplate(seq uint32) (template, error) {
	packed, err := sampleFiles.ReadFile(fmt.Sprintf("data/%d.xdr.zst", seq))
	if err != nil {
		return template{}, err
	}
	zr, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return template{}, err
	}
	defer zr.Close()
	raw, err := zr.DecodeAll(packed, nil)
	if err != nil {
		return template{}, corrupt(seq, err)
	}
	raw = bytes.Clone(raw) // without the slack of DecodeAll
	offset, err := sequenceOffset(raw)
	if err != nil {
		return template{}, corrupt(seq, err)
	}
	return template{raw, offset}, checkSequence(raw, seq)
}

// sequenceOffset finds the header's sequence. The SDK's views are subslices of
// what they were made of, so the distance to the end of the underlying array
// gives the place; no knowledge of the XDR layout is needed here.
func sequenceOffset(raw []byte) (int, error) {
	history, err := xdr.LedgerCloseMetaView(raw).LedgerHeader()
	if err != nil {
		return 0, err
	}
	view, err := xdr.Try(func() []byte { return history.MustHeader().MustLedgerSeq().MustRaw() })
	if err != nil {
		return 0, err
	}
	offset := cap(raw) - cap(view)
	if len(view) != 4 || offset < 0 || offset+4 > len(raw) || &raw[offset] != &view[0] {
		return 0, errors.New("the header's sequence is not where its view points")
	}
	return offset, nil
}
