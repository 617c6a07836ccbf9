package flights_test

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/flights"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// A descriptor is resolved to ledgers that are there, or rejected.
func FuzzDescriptor(f *testing.F) {
	f.Add(int32(1), "ledgers", []byte(nil))
	f.Add(int32(2), "", ledgers.Ticket{Flight: "ledgers", Range: ledgers.Range{First: 5, Last: 6}}.Marshal())
	f.Add(int32(7), "x", []byte("{"))
	bounds := ledgers.Range{First: 3, Last: 9}
	f.Fuzz(func(t *testing.T, kind int32, path string, cmd []byte) {
		desc := &flight.FlightDescriptor{Path: []string{path}, Cmd: cmd}
		desc.Type = flight.DescriptorType(kind)
		r, err := flights.Resolve(desc, "ledgers", bounds)
		if err == nil {
			require.True(t, bounds.Contains(r), "%v", r)
		}
	})
}

// Bounds are a range with ledgers in it, or an error.
func FuzzBounds(f *testing.F) {
	f.Add([]byte(`{"start":3,"end":9}`))
	f.Add([]byte(`{"start":9,"end":3}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, meta []byte) {
		r, err := flights.ParseBounds(&flight.FlightInfo{AppMetadata: meta})
		require.Equal(t, err == nil, r.Len() > 0)
	})
}
