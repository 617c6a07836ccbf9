package interceptors

import "sync/atomic"

// A tally sums the messages, rows and bytes of one direction. One goroutine at
// a time adds to it; any goroutine reads it, and always finds the sums of whole
// messages.
//
// An addition is one locked instruction: what came lately is kept in one word,
//
//	side : 1 | messages : 12 | rows : 22 | bytes : 29
//
// and folded into the sums before one of its fields is full. There are two sets
// of sums. The word says which is in force, so that the fold, which writes to
// the other one, takes effect in the instant in which the word begins anew.
type tally struct {
	recent atomic.Uint64
	folds  atomic.Uint64
	sums   [2]struct{ messages, rows, bytes atomic.Int64 }
}

const (
	tallyBytes    = 29
	tallyRows     = 22
	tallyMessages = 12

	rowsAt     = tallyBytes
	messagesAt = tallyBytes + tallyRows
	sideAt     = tallyBytes + tallyRows + tallyMessages

	// A field is full when its highest bit is set: until then it has room for
	// one more message, unless that is large.
	largeBytes = 1 << (tallyBytes - 1)
	largeRows  = 1 << (tallyRows - 1)
	fullTally  = largeBytes | largeRows<<rowsAt | 1<<(tallyMessages-1)<<messagesAt
)

// add counts one message.
func (t *tally) add(rows, bytes int64) {
	if uint64(rows) >= largeRows || uint64(bytes) >= largeBytes {
		t.fold(1, rows, bytes)
	} else if t.recent.Add(1<<messagesAt|uint64(rows)<<rowsAt|uint64(bytes))&fullTally != 0 {
		t.fold(0, 0, 0)
	}
}

// fold adds what came lately, and the arguments, to the sums.
func (t *tally) fold(messages, rows, bytes int64) {
	n, recent := t.folds.Load()+1, t.recent.Load()
	old, next := &t.sums[recent>>sideAt], &t.sums[n&1]
	m, r, b := splitTally(recent)
	next.messages.Store(old.messages.Load() + m + messages)
	next.rows.Store(old.rows.Load() + r + rows)
	next.bytes.Store(old.bytes.Load() + b + bytes)
	t.recent.Store(n & 1 << sideAt)
	t.folds.Store(n)
}

// read returns the sums. As long as no fold is counted while it looks, none has
// begun to write to the set that it reads: that one is next but one.
func (t *tally) read() (messages, rows, bytes int64) {
	for {
		n, recent := t.folds.Load(), t.recent.Load()
		sums := &t.sums[recent>>sideAt]
		m, r, b := splitTally(recent)
		m, r, b = m+sums.messages.Load(), r+sums.rows.Load(), b+sums.bytes.Load()
		if t.folds.Load() == n {
			return m, r, b
		}
	}
}

// empty reports that nothing was added yet.
func (t *tally) empty() bool { return t.recent.Load() == 0 && t.folds.Load() == 0 }

func splitTally(recent uint64) (messages, rows, bytes int64) {
	return int64(recent >> messagesAt & (1<<tallyMessages - 1)), int64(recent >> rowsAt & (1<<tallyRows - 1)), int64(recent & (1<<tallyBytes - 1))
}
