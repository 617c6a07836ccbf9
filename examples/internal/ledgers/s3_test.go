package ledgers_test

import (
	"encoding/xml"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// s3 serves a folder as the bucket "lake", as far as a reader needs it: list
// objects, head object, get object.
func s3(t *testing.T, dir string) string {
	t.Helper()
	var keys []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			key, _ := filepath.Rel(dir, path)
			keys = append(keys, filepath.ToSlash(key))
		}
		return err
	}))
	slices.Sort(keys)
	list := func(w http.ResponseWriter, r *http.Request) {
		type object struct {
			Key  string
			Size int64
		}
		var answer struct {
			XMLName     xml.Name `xml:"ListBucketResult"`
			Name        string
			KeyCount    int
			IsTruncated bool
			Contents    []object
		}
		answer.Name = "lake"
		for _, key := range keys {
			full := "pubnet/" + key
			if strings.HasPrefix(full, r.URL.Query().Get("prefix")) && full > r.URL.Query().Get("start-after") {
				answer.Contents = append(answer.Contents, object{Key: full})
				answer.KeyCount++
			}
		}
		w.Header().Set("Content-Type", "application/xml")
		_ = xml.NewEncoder(w).Encode(answer)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, inLake := strings.CutPrefix(r.URL.Path, "/lake/pubnet/")
		switch body, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(key))); {
		case strings.TrimSuffix(r.URL.Path, "/") == "/lake":
			list(w, r)
		case !inLake || err != nil:
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`<Error><Code>NoSuchKey</Code></Error>`))
		default:
			_, _ = w.Write(body)
		}
	}))
	t.Cleanup(server.Close)
	// Without these the SDK of S3 looks for credentials on the network.
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "",
	} {
		t.Setenv(name, value)
	}
	return server.URL
}

// The layout is that of the public network's data lake, below a prefix, with
// its manifest, on a server that speaks S3.
func TestDataLakeOverS3(t *testing.T) {
	all := ledgers.Range{First: first, Last: first + 2}
	url := s3(t, lake(t, all, datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 64000}, true))
	src, err := ledgers.NewDataLake(ledgers.DataLakeConfig{
		Type:   "S3",
		Params: map[string]string{"destination_bucket_path": "lake/pubnet", "region": "us-east-2", "endpoint_url": url},
		Start:  first,
	})
	require.NoError(t, err)
	bounds, err := src.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, all, bounds)
	sameAsSample(t, src, all)
	require.ErrorIs(t, drain(src.Ledgers(t.Context(), ledgers.Range{First: first, Last: first + 3})), ledgers.ErrNotFound)
}
