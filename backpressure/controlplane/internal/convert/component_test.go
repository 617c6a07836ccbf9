package convert

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
)

func TestPipelineIDIsRegistered(t *testing.T) {
	c := controlplane.Component{ID: "a", PipelineID: "ledgers", Metadata: map[string]string{"zone": "1"}}
	info := ComponentToV1(&c, 0)
	require.Equal(t, "ledgers", info.GetMetadata()[controlplane.PipelineKey], "stock tools show it")
	back, _ := ComponentFromV1(info)
	require.Equal(t, "ledgers", back.PipelineID)
	require.Equal(t, map[string]string{"zone": "1", controlplane.PipelineKey: "ledgers"}, back.Metadata)
	of := func(id string) bool { f := controlplane.Filter{PipelineID: id}; return f.Matches(&back) }
	require.True(t, of("ledgers"))
	require.True(t, of(""))
	require.False(t, of("another"))
}

// A component that says that nothing feeds it is not one that says nothing.
func TestNoUpstreamsAreAFact(t *testing.T) {
	for _, upstreams := range [][]string{nil, {}, {"a"}, {"a", "b"}} {
		back, _ := ComponentFromV1(ComponentToV1(&controlplane.Component{ID: "x", Upstreams: upstreams}, 0))
		require.Equal(t, upstreams, back.Upstreams)
		require.Empty(t, back.Metadata)
	}
}

// FuzzComponent: whatever metadata others send, what was read comes back the same.
func FuzzComponent(f *testing.F) {
	f.Add("a,b", "10", "3s", "ledgers")
	f.Add(",", "-1", "forever", "")
	f.Add("", "1e9", "-5s", "\xff")
	f.Fuzz(func(t *testing.T, upstreams, most, heartbeat, pipeline string) {
		read, every := ComponentFromV1(&flowctlv1pb.ComponentInfo{Id: "x", Metadata: map[string]string{
			metaUpstreams: upstreams, metaMaxInFlight: most, metaHeartbeat: heartbeat, controlplane.PipelineKey: pipeline,
		}})
		if read.MaxInFlight < 0 || every < 0 {
			t.Fatalf("max in flight %d, heartbeat %v", read.MaxInFlight, every)
		}
		again, after := ComponentFromV1(ComponentToV1(&read, every))
		require.Equal(t, read, again)
		require.Equal(t, every, after)
	})
}
