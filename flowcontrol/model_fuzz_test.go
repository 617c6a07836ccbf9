package flowcontrol

import "testing"

// The operations of the model's runs, from bytes: what random ones hit too seldom.
func FuzzTheGateDoesWhatItsModelDoes(f *testing.F) {
	bytesOf := func(ops ...operation) (data []byte) {
		for _, o := range ops {
			data = append(data, o[:]...)
		}
		return data
	}
	for seed := range uint64(6) {
		f.Add(bytesOf(randomOperations(seed, 10<<seed)...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ops := operations(data)
		if len(ops) > 1000 {
			return
		}
		play(differ).check(t, "fuzzed", ops)
		play(free).check(t, "fuzzed", ops)
	})
}
