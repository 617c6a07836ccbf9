package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/stellar/go-stellar-sdk/xdr"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// file is one unpacked file of a data lake.
type file struct {
	buffer  *[]byte
	ledgers []xdr.LedgerCloseMetaView // borrowed from buffer
	first   uint32
	err     error
}

// read yields the ledgers of r, with BufferFiles files read ahead.
func (d *DataLake) read(ctx context.Context, open lake, r ledgers.Range) stream {
	return func(yield func(ledgers.Ledger, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var workers sync.WaitGroup
		defer workers.Wait()
		defer cancel()
		ahead := make(chan chan file, d.cfg.BufferFiles-1)
		workers.Go(func() {
			defer close(ahead)
			first := open.schema.GetSequenceNumberStartBoundary(r.First)
			for seq := uint64(first); seq <= uint64(r.Last); seq += uint64(open.schema.LedgersPerFile) {
				result := make(chan file, 1)
				select {
				case ahead <- result:
				case <-ctx.Done():
					return
				}
				within := ledgers.Range{First: max(uint32(seq), r.First), Last: r.Last}
				workers.Go(func() { result <- d.load(ctx, open, within) })
			}
		})
		for result := range ahead {
			f := <-result
			if f.err != nil {
				yield(ledgers.Ledger{}, f.err)
				return
			}
			for i, view := range f.ledgers {
				seq := f.first + uint32(i)
				if seq < r.First || seq > r.Last {
					continue
				}
				if !yield(ledgers.Ledger{Sequence: seq, Raw: view}, nil) {
					return
				}
			}
			d.buffers.Put(f.buffer)
		}
	}
}

// load reads and unpacks the file that has the first ledger of wanted.
func (d *DataLake) load(ctx context.Context, open lake, wanted ledgers.Range) (f file) {
	seq := wanted.First
	key := open.schema.GetObjectKeyFromSequenceNumber(seq)
	var packed []byte
	err := d.retry(ctx, func() (err error) {
		packed, err = d.download(ctx, open, key)
		return err
	})
	switch {
	case errors.Is(err, os.ErrNotExist):
		return file{err: notFound(seq, "%s: %w", key, os.ErrNotExist)}
	case err != nil:
		return file{err: backend(ctx, seq, fmt.Errorf("%s: %w", key, err))}
	case int64(len(packed)) > d.cfg.MaxFileBytes:
		return file{err: corrupt(seq, "%s: it has more than %d bytes", key, d.cfg.MaxFileBytes)}
	}
	buffer, ok := d.buffers.Get().(*[]byte)
	if !ok {
		buffer = new([]byte)
	}
	// What was read whole and does not decode is damaged, whatever the reason.
	if *buffer, err = d.decoder.DecodeAll(packed, (*buffer)[:0]); err != nil {
		return file{err: corrupt(seq, "%s: unpacking it: %w", key, err)}
	}
	f, err = cut(*buffer)
	last := f.first + uint32(len(f.ledgers)) - 1
	low, high := open.schema.GetSequenceNumberStartBoundary(seq), open.schema.GetSequenceNumberEndBoundary(seq)
	switch {
	case err != nil:
	case f.first < low || last > high:
		err = fmt.Errorf("it says that it has %d to %d: another file's content", f.first, last)
	case f.first > seq || last < min(high, wanted.Last):
		err = fmt.Errorf("it says that it has only %d to %d", f.first, last)
	}
	if err != nil {
		return file{err: corrupt(seq, "%s: %w", key, err)}
	}
	f.buffer = buffer
	return f
}

// download reads a file, one byte more than is accepted at most.
func (d *DataLake) download(ctx context.Context, open lake, key string) ([]byte, error) {
	reader, size, err := open.store.GetFile(ctx, key)
	if err != nil {
		return nil, err
	}
	packed, err := io.ReadAll(io.LimitReader(reader, d.cfg.MaxFileBytes+1))
	if err = errors.Join(err, reader.Close()); err != nil {
		return nil, err
	}
	if size >= 0 && int64(len(packed)) < min(size, d.cfg.MaxFileBytes) {
		return nil, fmt.Errorf("%d of %d bytes arrived", len(packed), size)
	}
	return packed, nil
}

// cut finds the ledgers of a batch.
func cut(raw []byte) (f file, err error) {
	batch, err := xdr.LedgerCloseMetaBatchView(raw).Fields()
	if err != nil {
		return f, err
	}
	last := uint32(0)
	if f.first, err = batch.StartSequence.Value(); err == nil {
		last, err = batch.EndSequence.Value()
	}
	if err == nil {
		f.ledgers, err = batch.LedgerCloseMetas.All()
	}
	if err == nil && (len(f.ledgers) == 0 || uint64(last)-uint64(f.first)+1 != uint64(len(f.ledgers))) {
		err = fmt.Errorf("it says that it has %d to %d, and has %d ledgers", f.first, last, len(f.ledgers))
	}
	return f, err
}
