package ledgers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/binary"
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
// Only the sequence and the chain of hashes in the ledger header change, so the
// SDK's readers see a gapless chain; close times and transactions stay those of
// the original ledgers and therefore repeat. The hash of a ledger is that of its
// sequence, and not of its header: that would make each depend on all before.
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
		Note: fmt.Sprintf("replaying the public network's ledgers 53312000 and 58752000 in turn, "+
			"with sequences and the chain of hashes rewritten to %v",
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
			copies[i] = t
			copies[i].raw = bytes.Clone(t.raw)
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

// template is a ledger whose place in the chain can be changed in place.
type template struct {
	raw                      []byte
	sequence, hash, previous int // offsets into raw
}

// at writes seq and its hashes into the template and returns its bytes.
func (t template) at(seq uint32) []byte {
	binary.BigEndian.PutUint32(t.raw[t.sequence:], seq)
	own, previous := hashOf(seq), hashOf(seq-1)
	copy(t.raw[t.hash:], own[:])
	copy(t.raw[t.previous:], previous[:])
	return t.raw
}

// hashOf is the hash of a ledger of the sample.
func hashOf(seq uint32) [sha256.Size]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint32([]byte("sluice sample "), seq))
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
	t := template{raw: raw}
	if err := t.locate(); err != nil {
		return template{}, corrupt(seq, err)
	}
	return t, checkSequence(raw, seq)
}

// locate finds the fields that are rewritten. The SDK's views are subslices of
// what they were made of, so the distance to the end of the underlying array
// gives the place; no knowledge of the XDR layout is needed here.
func (t *template) locate() error {
	entry, err := xdr.LedgerCloseMetaView(t.raw).LedgerHeader()
	if err != nil {
		return err
	}
	return xdr.TryVoid(func() {
		header := entry.MustHeader()
		t.sequence = t.offset(header.MustLedgerSeq().MustRaw(), 4)
		t.hash = t.offset(entry.MustHash().MustRaw(), sha256.Size)
		t.previous = t.offset(header.MustPreviousLedgerHash().MustRaw(), sha256.Size)
	})
}

// offset is where view, of size bytes, lies in the template.
func (t *template) offset(view []byte, size int) int {
	offset := cap(t.raw) - cap(view)
	if len(view) != size || offset < 0 || offset+size > len(t.raw) || &t.raw[offset] != &view[0] {
		panic("ledgers: a field of the shipped ledger's header is not where its view points")
	}
	return offset
}
