package interceptors

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// rejections counts refusals by class and reason. The reasons are known, so each
// has its counter, and counting takes no lock.
type rejections [classes][]atomic.Int64

var (
	knownReasons = func() []Reason {
		all := slices.Clone(ownReasons)
		for _, r := range flowcontrol.Reasons() {
			all = append(all, Reason(r.String()))
		}
		return all
	}()
	reasonIndex = func() map[Reason]int {
		index := make(map[Reason]int, len(knownReasons))
		for i, r := range knownReasons {
			index[r] = i
		}
		return index
	}()
)

func (r *rejections) init() {
	for class := range r {
		r[class] = make([]atomic.Int64, len(knownReasons))
	}
}

func (r *rejections) count(e *Error) { r[e.Class][reasonIndex[e.Reason]].Add(1) }

// read returns an entry for each class and reason that was seen, sorted.
func (r *rejections) read() (seen []Rejection) {
	for class := range r {
		for i, reason := range knownReasons {
			if n := r[class][i].Load(); n > 0 {
				seen = append(seen, Rejection{Class(class), reason, n})
			}
		}
	}
	slices.SortFunc(seen, func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Reason, b.Reason))
	})
	return seen
}
