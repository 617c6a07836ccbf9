package backpressure_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
)

// pipelines reports loads every 100 ms, as agents of two pipelines do.
type pipelines struct {
	t       *testing.T
	c       *backpressure.Controller
	loads   map[string]int64
	feeds   map[string][]string
	watched string
	lowest  float64 // of the watched service
}

func (p *pipelines) run(d time.Duration) {
	for range d / (100 * time.Millisecond) {
		for id, load := range p.loads {
			require.NoError(
				p.t, p.c.Report(backpressure.Report{ServiceID: id, InFlight: load, MaxInFlight: 100, Upstreams: p.feeds[id]}),
			)
			p.lowest = min(p.lowest, p.c.FractionFor(p.watched))
		}
		time.Sleep(100 * time.Millisecond)
		p.lowest = min(p.lowest, p.c.FractionFor(p.watched))
	}
}

// Two pipelines have nothing in common. One is overloaded and its sink is gone;
// when the other's sink restarts, the other must not notice.
func TestACalmPipelineIsNotThrottledForItsNeighbour(t *testing.T) {
	for name, declared := range map[string]bool{"sources declare to have none": true, "sources declare nothing": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newController(t, backpressure.Config{})
				p := &pipelines{
					t: t, c: c, watched: "b-source", lowest: 1,
					loads: map[string]int64{"a-source": 97, "a-sink": 99, "b-source": 10, "b-sink": 10},
					feeds: map[string][]string{"a-sink": {"a-source"}, "b-sink": {"b-source"}},
				}
				if declared {
					p.feeds["a-source"], p.feeds["b-source"] = []string{}, []string{}
				}
				p.run(5 * time.Second)
				require.Less(t, c.FractionFor("a-source"), 0.6)
				p.lowest = 1 // from here on: before, the controller did not know what belongs together
				delete(p.loads, "a-sink")
				c.RemoveService("a-sink")
				p.run(10 * time.Second)
				require.Less(t, c.FractionFor("a-source"), 0.2, "its own load holds it down")
				delete(p.loads, "b-sink")
				c.RemoveService("b-sink")
				p.run(3 * time.Second)
				p.loads["b-sink"] = 10
				p.run(10 * time.Second)
				require.Equal(t, 1.0, p.lowest, "the calm pipeline's source")
			})
		})
	}
}

// However many pipelines there are, each is decided by itself.
func TestAThousandPipelinesAreDecidedApart(t *testing.T) {
	c := newController(t, backpressure.Config{Policy: backpressure.Step{}, MaxInFlight: -1})
	for i := range 1000 {
		source, sink := fmt.Sprint("source", i), fmt.Sprint("sink", i)
		require.NoError(t, c.Report(backpressure.Report{ServiceID: source, InFlight: 1, MaxInFlight: 100}))
		require.NoError(
			t, c.Report(backpressure.Report{ServiceID: sink, InFlight: 1, MaxInFlight: 100, Upstreams: []string{source}}),
		)
	}
	c.Tick()
	require.NoError(t, c.UpdateServiceInFlight("sink7", 99))
	require.Equal(t, 0.5, c.FractionFor("source7"))
	require.Equal(t, 1.0, c.FractionFor("source8"))
}

// One component with more paths than a report may cost is decided as one; it
// stays apart from the rest.
func TestATangleIsOnePath(t *testing.T) {
	c := newController(t, backpressure.Config{Policy: backpressure.Step{}, MaxInFlight: -1})
	const n = 100
	for i := range n { // each entry feeds its own stage and the shared one
		require.NoError(
			t,
			c.Report(
				backpressure.Report{ServiceID: fmt.Sprint("entry", i), InFlight: 1, MaxInFlight: 100, Upstreams: []string{}},
			),
		)
		require.NoError(
			t,
			c.Report(
				backpressure.Report{
					ServiceID:   fmt.Sprint("own", i),
					InFlight:    1,
					MaxInFlight: 100,
					Upstreams:   []string{fmt.Sprint("entry", i)},
				},
			),
		)
		if i%64 == 0 {
			require.NoError(
				t, c.Report(backpressure.Report{ServiceID: fmt.Sprint("shared", i/64), InFlight: 1, MaxInFlight: 100}),
			)
		}
	}
	for j := range 2 {
		var feeds []string
		for i := range 60 {
			feeds = append(feeds, fmt.Sprint("entry", i+j*40))
		}
		require.NoError(
			t,
			c.Report(backpressure.Report{ServiceID: fmt.Sprint("shared", j), InFlight: 1, MaxInFlight: 100, Upstreams: feeds}),
		)
	}
	require.NoError(
		t, c.Report(backpressure.Report{ServiceID: "apart", InFlight: 1, MaxInFlight: 100, Upstreams: []string{}}),
	)
	c.Tick()
	require.Len(t, c.Paths(), 2)
	require.NoError(t, c.UpdateServiceInFlight("own3", 99))
	require.Equal(t, 0.5, c.FractionFor("entry70"))
	require.Equal(t, 1.0, c.FractionFor("apart"))
}

// A ring is decided as a whole, wherever it is entered.
func TestARingIsOnePath(t *testing.T) {
	c := newController(t, backpressure.Config{Policy: backpressure.Step{}})
	for id, up := range map[string]string{"a": "c", "b": "a", "c": "b"} {
		require.NoError(
			t, c.Report(backpressure.Report{ServiceID: id, InFlight: 1, MaxInFlight: 100, Upstreams: []string{up}}),
		)
	}
	c.Tick()
	require.Len(t, c.Paths(), 1)
	require.NoError(t, c.UpdateServiceInFlight("b", 99))
	require.Equal(t, 0.5, c.FractionFor("c"))
}

// A sink that restarts takes its load along, and not what its entry was held at:
// that is released by the policy.
func TestAnEntryKeepsItsFractionWhileItsSinkRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t, backpressure.Config{})
		p := &pipelines{
			t: t, c: c, watched: "source", lowest: 1,
			loads: map[string]int64{"source": 20, "sink": 99},
			feeds: map[string][]string{"sink": {"source"}, "source": {}},
		}
		p.run(5 * time.Second)
		before := c.FractionFor("source")
		require.Less(t, before, 0.6)
		delete(p.loads, "sink")
		c.RemoveService("sink")
		p.run(200 * time.Millisecond)
		require.InDelta(t, before, c.FractionFor("source"), 0.15, "not released at once")
	})
}

// How often there was an overload is a count: it does not go down when the
// services of it, and with them their path, are gone.
func TestActivationsOfGonePathsStayCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t, backpressure.Config{})
		p := &pipelines{
			t: t, c: c, watched: "a-source",
			loads: map[string]int64{"a-source": 97, "a-sink": 99, "b-source": 10, "b-sink": 10},
			feeds: map[string][]string{"a-source": {}, "b-source": {}, "a-sink": {"a-source"}, "b-sink": {"b-source"}},
		}
		p.run(5 * time.Second)
		before := c.Snapshot().Activations
		require.Positive(t, before)
		for _, id := range []string{"a-sink", "a-source", "b-sink", "b-source"} {
			delete(p.loads, id)
			c.RemoveService(id)
			p.run(5 * time.Second)
			require.GreaterOrEqual(t, c.Snapshot().Activations, before, id)
		}
	})
}
