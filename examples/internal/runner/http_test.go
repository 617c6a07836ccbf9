package runner_test

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func (tr *trial) status(t *testing.T, at string) (st component.Status) {
	t.Helper()
	code, body := get(t, at+"/status")
	require.Equal(t, 200, code)
	require.NoError(t, json.Unmarshal([]byte(body), &st))
	return st
}
