package backpressure

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/topology"
)

func totals(services []ServiceState) (throughput float64, latency time.Duration) {
	all := make([]stage, len(services))
	for i := range services {
		all[i] = stageOf(&services[i].Report)
	}
	g := newStages(all)
	return g.throughput(), g.longest()
}

// TestLongestWay compares with all ways through random graphs.
func TestLongestWay(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		services := make([]ServiceState, 1+r.IntN(9))
		byID := map[string]*ServiceState{}
		for i := range services {
			s := &services[i]
			s.ServiceID, s.Latency, s.Throughput = fmt.Sprint("s", i), time.Duration(r.IntN(100)), float64(r.IntN(100))
			for u := range i { // no rings
				if r.IntN(3) == 0 {
					s.Upstreams = append(s.Upstreams, fmt.Sprint("s", u))
				}
			}
			byID[s.ServiceID] = s
		}
		services[0].Upstreams = []string{"nobody"}
		var way func(s *ServiceState) time.Duration
		way = func(s *ServiceState) (longest time.Duration) {
			for _, u := range s.Upstreams {
				if u := byID[u]; u != nil {
					longest = max(longest, way(u))
				}
			}
			return longest + s.Latency
		}
		var longest, alone time.Duration
		var leaves, all float64
		feeds, edges := map[string]bool{}, 0
		for i := range services {
			longest, alone = max(longest, way(&services[i])), max(alone, services[i].Latency)
			for _, u := range services[i].Upstreams {
				feeds[u] = true
				if byID[u] != nil {
					edges++
				}
			}
		}
		for i := range services {
			all += services[i].Throughput
			if !feeds[services[i].ServiceID] {
				leaves += services[i].Throughput
			}
		}
		if edges == 0 { // nobody has a kind either
			longest, leaves = alone, all
		}
		throughput, latency := totals(services)
		require.Equal(t, longest, latency)
		require.Equal(t, leaves, throughput)
	}
}

func TestKindsAreTheOrderWhereNoUpstreamIsNamed(t *testing.T) {
	state := func(id string, kind topology.Kind, throughput float64, latency time.Duration) ServiceState {
		return ServiceState{Report: Report{ServiceID: id, Kind: kind, Throughput: throughput, Latency: latency}}
	}
	for name, c := range map[string]struct {
		services   []ServiceState
		throughput float64
		latency    time.Duration
	}{
		"none": {nil, 0, 0},
		"all": {
			[]ServiceState{
				state("a", topology.KindSource, 1, 5), state("b", topology.KindSource, 2, 7),
				state("c", topology.KindProcessor, 4, 20), state("d", topology.KindSink, 8, 100),
			}, 8, 127,
		},
		"no sink": {
			[]ServiceState{
				state("a", topology.KindSource, 1, 5), state("c", topology.KindProcessor, 4, 20),
				state("d", topology.KindProcessor, 8, 10),
			}, 12, 25,
		},
		"sources":    {[]ServiceState{state("a", topology.KindSource, 1, 5), state("b", topology.KindSource, 2, 7)}, 3, 7},
		"no kind":    {[]ServiceState{state("a", topology.KindUnknown, 1, 50), state("b", topology.KindSource, 2, 7)}, 3, 50},
		"sink alone": {[]ServiceState{state("a", topology.KindUnknown, 1, 50), state("b", topology.KindSink, 2, 7)}, 2, 50},
	} {
		t.Run(name, func(t *testing.T) {
			throughput, latency := totals(c.services)
			require.Equal(t, c.throughput, throughput)
			require.Equal(t, c.latency, latency)
		})
	}
}

// TestARingCountsOnce also where it is entered in its midst.
func TestARingCountsOnce(t *testing.T) {
	_, latency := totals([]ServiceState{
		{Report: Report{ServiceID: "a", Latency: 1, Upstreams: []string{"c"}}},
		{Report: Report{ServiceID: "b", Latency: 10, Upstreams: []string{"a"}}},
		{Report: Report{ServiceID: "c", Latency: 100, Upstreams: []string{"b"}}},
	})
	require.Equal(t, time.Duration(111), latency)
}

// TestOverviewIsASnapshotWithoutTheServices, and each of them can be asked for.
func TestOverviewIsASnapshotWithoutTheServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config{})
		require.NoError(t, err)
		defer c.Close()
		for _, r := range []Report{
			{ServiceID: "a", Kind: topology.KindSource, InFlight: 90, MaxInFlight: 100, Throughput: 5, Latency: 7},
			{ServiceID: "b", Kind: topology.KindSink, InFlight: 10, Throughput: 4, Latency: 9},
		} {
			require.NoError(t, c.Report(r))
			snap := c.Snapshot()
			require.Equal(t, len(snap.Services), 1+int(r.ServiceID[0]-'a'))
			require.Positive(t, snap.TotalThroughput)
			require.Positive(t, snap.EndToEndLatency)
			require.Equal(t, 0.9, snap.AggregateLoad)
			for _, state := range snap.Services {
				same, ok := c.Service(state.ServiceID)
				require.True(t, ok)
				require.Equal(t, state, same)
			}
			snap.Services = nil
			require.Equal(t, snap, c.Overview())
		}
		require.NoError(t, c.Report(Report{ServiceID: "b", Upstreams: []string{"a"}, Latency: 1}))
		snap := c.Snapshot()
		require.Equal(t, time.Duration(8), snap.EndToEndLatency)
		snap.Services = nil
		require.Equal(t, snap, c.Overview())
		_, ok := c.Service("nobody")
		require.False(t, ok)
	})
}
