package controlplane

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
)

// Who asks for the graph at the same time gets the same one, and nobody pays for
// it once it is old.
func TestAGraphIsKeptForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := NewServer(ServerConfig{Decision: backpressure.Config{Learn: -1}})
		require.NoError(t, err)
		defer s.Close()
		report := func(inFlight int64) {
			require.NoError(t, s.beat(t.Context(), "sink", HealthUnknown, nil, func(*entry) backpressure.Report {
				return backpressure.Report{ServiceID: "sink", InFlight: inFlight, MaxInFlight: 100}
			}))
		}
		require.NoError(t, s.register(t.Context(), Component{ID: "sink", MaxInFlight: 100}, 0))
		report(10)
		g := s.Topology()
		require.Equal(t, 0.1, g.Nodes[0].Load)
		report(50)
		require.Same(t, g, s.Topology())
		time.Sleep(pictureAge + time.Millisecond)
		synctest.Wait()
		require.Nil(t, s.pictures.latest)
		require.Equal(t, 0.5, s.Topology().Nodes[0].Load)

		require.NoError(t, s.register(t.Context(), Component{ID: "another"}, 0))
		require.Len(t, s.Topology().Nodes, 2, "who came is there at once")
	})
}

// TestEachIsInOrder whoever came and went before.
func TestEachIsInOrder(t *testing.T) {
	r, random := newRegistry(Limits{}.withDefaults()), rand.New(rand.NewPCG(5, 6))
	there := map[string]bool{}
	change := func() {
		id := fmt.Sprint(random.IntN(500))
		if there[id] {
			require.True(t, r.remove(id))
		} else {
			_, err := r.put(Component{ID: id}, 0, id)
			require.Nil(t, err)
		}
		there[id] = !there[id]
	}
	look := func() (ids []string) {
		r.each(func(e *entry) {
			ids = append(ids, e.ID)
		})
		require.True(t, slices.IsSorted(ids))
		return ids
	}
	for range 200 {
		for range random.IntN(4) {
			change()
		}
		ids := look()
		n := 0
		for _, is := range there {
			if is {
				n++
			}
		}
		require.Len(t, ids, n)
	}
	changes := r.changes
	all, _, sorted := r.listing()
	require.True(t, sorted)
	change()
	r.list(all, changes)
	require.Nil(t, r.listed, "what was sorted before a change is not kept")
}
