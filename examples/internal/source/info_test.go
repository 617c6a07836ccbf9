package source_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/source"
)

func TestReadTime(t *testing.T) {
	at := time.Unix(1_700_000_000, 123_456_789)
	meta := source.BatchInfo{Read: at.UnixNano()}.Marshal()
	require.JSONEq(t, `{"read":1700000000123456789}`, string(meta))
	require.True(t, at.Equal(source.ReadTime(meta)))
	for _, other := range []string{"", "x", "{}", "[]", `{"read":"today"}`, `{"read":-1}`, `{"read":0}`} {
		require.Zero(t, source.ReadTime([]byte(other)), "another source may say anything: %q", other)
	}
}
