package backpressure

import "math/bits"

// worst finds the highest load of a path's services in constant time, whatever
// their number: loads are sorted into buckets 1/65536 wide, and a bitmap of
// three levels knows the highest bucket that is not empty. A heap would cost
// log N a report, a scan N. Loads of 2 and more share the last bucket.
//
//	level 2:  1 word    one bit for each word of level 1
//	level 1: 32 words   one bit for each word of level 0
//	level 0: 2048 words one bit for each bucket
type worst struct {
	top   uint64
	mid   [buckets / 4096]uint64
	low   [buckets / 64]uint64
	heads [buckets / pageSize]*page // lists, made when first needed
}

const (
	resolution = 1 << 16
	buckets    = 2 * resolution
	pageSize   = 4096
)

type page [pageSize]*member

// A member is a service's place in one path.
type member struct {
	service    *service
	path       *path
	prev, next *member
	bucket     int32 // -1: in none
}

// bucketOf rounds to the nearest bucket: thresholds are decimal fractions, and
// truncation would put a load of exactly 0.80 below 0.80.
func bucketOf(load float64) int32 {
	return int32(min(load*resolution+0.5, buckets-1))
}

func (w *worst) move(m *member, to int32) {
	if m.bucket == to {
		return
	}
	w.remove(m)
	p := w.heads[to/pageSize]
	if p == nil {
		p = new(page)
		w.heads[to/pageSize] = p
	}
	head := &p[to%pageSize]
	m.bucket, m.prev, m.next = to, nil, *head
	if *head != nil {
		(*head).prev = m
	} else {
		w.low[to>>6] |= 1 << (to & 63)
		w.mid[to>>12] |= 1 << (to >> 6 & 63)
		w.top |= 1 << (to >> 12)
	}
	*head = m
}

func (w *worst) remove(m *member) {
	b := m.bucket
	if b < 0 {
		return
	}
	if m.next != nil {
		m.next.prev = m.prev
	}
	if m.prev != nil {
		m.prev.next = m.next
	} else {
		w.heads[b/pageSize][b%pageSize] = m.next
		if m.next == nil {
			w.clear(b)
		}
	}
	m.bucket, m.prev, m.next = -1, nil, nil
}

func (w *worst) clear(b int32) {
	if w.low[b>>6] &^= 1 << (b & 63); w.low[b>>6] != 0 {
		return
	}
	if w.mid[b>>12] &^= 1 << (b >> 6 & 63); w.mid[b>>12] != 0 {
		return
	}
	w.top &^= 1 << (b >> 12)
}

// max returns a service of the highest bucket, nil when there is none. Its
// load is the highest but for the bucket's width.
func (w *worst) max() *service {
	if w.top == 0 {
		return nil
	}
	i := bits.Len64(w.top) - 1
	j := i<<6 + bits.Len64(w.mid[i]) - 1
	b := j<<6 + bits.Len64(w.low[j]) - 1
	return w.heads[b/pageSize][b%pageSize].service
}
