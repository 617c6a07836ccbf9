package sink_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"os"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// readIDs reads the event ids of a file with readers that are not ours: a file
// that only its writer understands would be worth nothing.
func readIDs(t *testing.T, f sink.File) (ids []string) {
	t.Helper()
	text, err := os.ReadFile(f.Path)
	require.NoError(t, err)
	switch f.Format {
	case sink.JSONL:
		decoder := json.NewDecoder(bytes.NewReader(text))
		for {
			var row struct {
				ID string `json:"event_id"`
			}
			err := decoder.Decode(&row)
			if err == io.EOF {
				return ids
			}
			require.NoError(t, err)
			ids = append(ids, row.ID)
		}
	case sink.CSV:
		rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
		require.NoError(t, err)
		require.Equal(t, "event_id", rows[0][0])
		for _, row := range rows[1:] {
			ids = append(ids, row[0])
		}
	default:
		type row struct {
			ID string `parquet:"event_id"`
		}
		rows, err := parquet.Read[row](bytes.NewReader(text), int64(len(text)))
		require.NoError(t, err)
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
	}
	return ids
}
