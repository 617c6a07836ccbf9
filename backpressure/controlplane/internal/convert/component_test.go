package convert

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
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
