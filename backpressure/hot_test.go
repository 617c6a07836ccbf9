package backpressure_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/flowcontrol"
)

func populated(t testing.TB, services int) (*backpressure.Controller, []string) {
	c := newController(t, backpressure.Config{MaxServices: services, MaxInFlight: -1})
	ids := make([]string, services)
	for i := range ids {
		ids[i] = fmt.Sprintf("service-%05d", i)
		require.NoError(t, c.Report(backpressure.Report{ServiceID: ids[i], InFlight: int64(i % 70), MaxInFlight: 100}))
	}
	return c, ids
}

func throttler(t testing.TB) *flowcontrol.Throttler {
	g, err := flowcontrol.New(flowcontrol.Config{})
	require.NoError(t, err)
	return g
}

// BenchmarkHotReport is a report of one of N services, its load going up and
// down through the whole range, so that the worst stage changes all the time.
func BenchmarkHotReport(b *testing.B) {
	for _, services := range []int{10, 10_000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			c, ids := populated(b, services)
			defer c.Bind(throttler(b))()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				_ = c.Report(backpressure.Report{ServiceID: ids[i%services], InFlight: int64(i*37%100) + 1, MaxInFlight: 100})
				i++
			}
		})
	}
}

// BenchmarkHotUpdate is the same for the in flight alone.
func BenchmarkHotUpdate(b *testing.B) {
	c, ids := populated(b, 10_000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		_ = c.UpdateServiceInFlight(ids[i%len(ids)], int64(i*37%100))
		i++
	}
}

// BenchmarkHotFraction is what a gate would pay that asks instead of being told.
func BenchmarkHotFraction(b *testing.B) {
	c, _ := populated(b, 10)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = c.Fraction()
		}
	})
}

func TestReportsAllocateNothing(t *testing.T) {
	c, ids := populated(t, 1000)
	defer c.Bind(throttler(t))()
	i := 0
	report := func() {
		_ = c.Report(backpressure.Report{ServiceID: ids[i%len(ids)], InFlight: int64(i * 37 % 100), MaxInFlight: 100})
		_ = c.UpdateServiceInFlight(ids[(i+1)%len(ids)], int64(i%100))
		i++
	}
	for range 2000 {
		report() // every page of the load index exists from here on
	}
	require.Zero(t, testing.AllocsPerRun(2000, report), "allocations a report")
}
