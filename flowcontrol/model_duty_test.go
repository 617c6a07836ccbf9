package flowcontrol

import "math"

// The fraction of the waiting verbs: the time that was worked should be the
// fraction of what would have been worked without one.

func (m *model) possible(waiting int) float64 {
	return float64(min(int64(m.working+waiting), m.limit(Messages)))
}

// integrate adds up worked and due time until now. It is called before anything
// changes of what they depend on.
func (m *model) integrate() {
	if m.fraction == 1 {
		return
	}
	for len(m.paced) > 0 && m.paced[0]+250e6 <= m.now {
		m.integrateTo(m.paced[0] + 250e6)
		m.paced = m.paced[1:]
		m.working--
	}
	m.integrateTo(m.now)
}

func (m *model) integrateTo(at int64) {
	if at <= m.integrated {
		return
	}
	possible := m.possible(len(m.waiting))
	if possible > 0 {
		m.wanted = possible
	} else {
		possible = m.wanted
	}
	share := m.fraction * possible
	m.debt += (float64(m.working) - share) * float64(at-m.integrated)
	m.debt = min(max(m.debt, share*-20e6), share*30e9)
	m.integrated = at
}

func (m *model) mayWork(waiting int) bool {
	share, n := m.fraction*m.possible(waiting), float64(m.working)
	return m.debt < -1 && n < share+1 || m.debt >= -1 && m.debt <= 1 && n < share
}

func (m *model) mayWorkIn(waiting int) int64 {
	due := int64(0)
	if falls := m.fraction*m.possible(waiting) - float64(m.working); falls > 0 {
		due = max(1, int64(min(math.Ceil(max(m.debt-1, 0)/falls), 1<<60)))
	}
	if len(m.paced) > 0 {
		if end := max(1, m.paced[0]+250e6-m.now); due == 0 || end < due {
			due = end
		}
	}
	return due
}
