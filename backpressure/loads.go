package backpressure

// A member is a service's place on one path. A stage that several paths cross has as
// many.
type member struct {
	service *service
	path    *path
	index   int // in the path's loads
}

// loads is a heap.Interface over a path's members, the highest load first: the
// worst stage of ten thousand is known at once, and a report moves its service
// by a few places on average and by fourteen at most. Only the top is ever read, so
// nothing needs the order below it that a sorted list would keep.
type loads []*member

func (l loads) Len() int           { return len(l) }
func (l loads) Less(i, j int) bool { return l[i].service.load > l[j].service.load }

func (l loads) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i, j
}

func (l *loads) Push(m any) {
	added := m.(*member)
	added.index = len(*l)
	*l = append(*l, added)
}

func (l *loads) Pop() any {
	last := len(*l) - 1
	removed := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	return removed
}

// worst is the service with the highest load, nil where there is none.
func (l loads) worst() *service {
	if len(l) == 0 {
		return nil
	}
	return l[0].service
}
