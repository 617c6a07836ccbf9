package interceptors

import (
	"cmp"
	"slices"
	"sync"
)

// rejections counts rejections by class and reason.
type rejections struct {
	mu     sync.Mutex
	counts map[Rejection]int64 // by a Rejection with no count
}

func (r *rejections) count(e *Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[Rejection]int64{}
	}
	r.counts[Rejection{Class: e.Class, Reason: e.Reason}]++
}

// read returns an entry for each class and reason that was seen, sorted.
func (r *rejections) read() []Rejection {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.counts) == 0 {
		return nil
	}
	seen := make([]Rejection, 0, len(r.counts))
	for rejection, n := range r.counts {
		rejection.Count = n
		seen = append(seen, rejection)
	}
	slices.SortFunc(seen, func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Reason, b.Reason))
	})
	return seen
}
