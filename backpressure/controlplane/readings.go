package controlplane

import (
	"slices"
	"unique"
)

// A reading is one metric of a beat, its name as it came.
type reading struct {
	name  []byte
	value float64
}

// readingsOf are the readings of a heartbeat map.
func readingsOf(metrics map[string]float64) []reading {
	readings := make([]reading, 0, len(metrics))
	for name, v := range metrics {
		readings = append(readings, reading{[]byte(name), v})
	}
	return readings
}

// A metricList is what the registry keeps of a component's metrics, in order of
// their names. Ten thousand components have ten each, of the same names: lists
// with one copy of each name take less room than maps, and a beat changes its list
// in place. What leaves the registry is a copy.
type metricList []metric

type metric struct {
	name  unique.Handle[string]
	value float64
}

// find returns the place of a name, or where it belongs.
func (l metricList) find(name []byte) (place int, found bool) {
	return slices.BinarySearchFunc(l, name, func(m metric, name []byte) int {
		switch known := m.name.Value(); { // without a copy of the name
		case known < string(name):
			return -1
		case known > string(name):
			return 1
		default:
			return 0
		}
	})
}

// value is 0 for a metric that is not there.
func (l metricList) value(name string) float64 {
	for i := range l {
		if l[i].name.Value() == name {
			return l[i].value
		}
	}
	return 0
}

// put returns the list with the readings in it. Only a new name allocates.
func (l metricList) put(readings []reading) metricList {
	for _, r := range readings {
		i, found := l.find(r.name)
		if !found {
			l = slices.Insert(l, i, metric{name: unique.Make(string(r.name))})
		}
		l[i].value = r.value
	}
	return l
}

// all is nil where there are none.
func (l metricList) all() map[string]float64 {
	if len(l) == 0 {
		return nil
	}
	metrics := make(map[string]float64, len(l))
	for _, m := range l {
		metrics[m.name.Value()] = m.value
	}
	return metrics
}
