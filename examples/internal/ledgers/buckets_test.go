package ledgers_test

import (
	"encoding/json"
	"encoding/xml"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// bucket is a folder as the bucket "lake" sees it: below the prefix "pubnet/".
type bucket struct {
	dir  string
	keys []string // sorted, with the prefix
}

func newBucket(t *testing.T, dir string) bucket {
	t.Helper()
	b := bucket{dir: dir}
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			key, _ := filepath.Rel(dir, path)
			b.keys = append(b.keys, "pubnet/"+filepath.ToSlash(key))
		}
		return err
	}))
	slices.Sort(b.keys)
	return b
}

// list returns the keys with a prefix that come after another.
func (b bucket) list(prefix, after string) []string {
	return slices.DeleteFunc(slices.Clone(b.keys), func(key string) bool { return !strings.HasPrefix(key, prefix) || key <= after })
}

func (b bucket) read(key string) ([]byte, error) {
	if !slices.Contains(b.keys, key) {
		return nil, fs.ErrNotExist
	}
	return os.ReadFile(filepath.Join(b.dir, filepath.FromSlash(strings.TrimPrefix(key, "pubnet/"))))
}

// s3 serves a bucket as far as a reader needs S3: list, head and get.
func s3(t *testing.T, b bucket) string {
	t.Helper()
	type object struct{ Key string }
	type list struct {
		XMLName     xml.Name `xml:"ListBucketResult"`
		Name        string
		KeyCount    int
		IsTruncated bool
		Contents    []object
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		if strings.TrimSuffix(r.URL.Path, "/") == "/lake" {
			answer := list{Name: "lake"}
			for _, key := range b.list(r.URL.Query().Get("prefix"), r.URL.Query().Get("start-after")) {
				answer.Contents = append(answer.Contents, object{key})
			}
			answer.KeyCount = len(answer.Contents)
			_ = xml.NewEncoder(w).Encode(answer)
			return
		}
		body, err := b.read(strings.TrimPrefix(r.URL.Path, "/lake/"))
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			body = []byte(`<Error><Code>NoSuchKey</Code></Error>`)
		}
		_, _ = w.Write(body)
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

// gcs serves a bucket as far as a reader needs Google's JSON and XML interfaces,
// and makes the process take it for the real one.
func gcs(t *testing.T, b bucket) {
	t.Helper()
	type object struct {
		Name string `json:"name"`
		Size string `json:"size,omitempty"`
	}
	const api = "/storage/v1/b/lake"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, _ := url.PathUnescape(r.URL.EscapedPath())
		var answer any
		switch key, attributes := strings.CutPrefix(path, api+"/o/"); {
		case path == api:
			answer = map[string]string{"name": "lake"}
		case path == api+"/o":
			var items []object
			for _, key := range b.list(r.URL.Query().Get("prefix"), r.URL.Query().Get("startOffset")) {
				items = append(items, object{Name: key})
			}
			answer = map[string]any{"items": items}
		case attributes:
			body, err := b.read(key)
			if err != nil {
				http.Error(w, `{"error":{"code":404}}`, http.StatusNotFound)
				return
			}
			answer = object{key, strconv.Itoa(len(body))}
		default:
			body, err := b.read(strings.TrimPrefix(path, "/lake/"))
			if err != nil {
				http.Error(w, "NoSuchKey", http.StatusNotFound)
				return
			}
			w.Header().Set("X-Goog-Generation", "1")
			_, _ = w.Write(body)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	t.Setenv("STORAGE_EMULATOR_HOST", server.URL)
}

// The layout is that of the public network's data lake, below a prefix, with
// its manifest, on servers that speak S3 and GCS.
func TestDataLakeInABucket(t *testing.T) {
	all := ledgers.Range{First: first, Last: first + 2}
	b := newBucket(t, lake(t, all, datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 64000}, true))
	for kind, params := range map[string]func(t *testing.T) map[string]string{
		"S3": func(t *testing.T) map[string]string {
			return map[string]string{"region": "us-east-2", "endpoint_url": s3(t, b)}
		},
		"GCS": func(t *testing.T) map[string]string {
			gcs(t, b)
			return map[string]string{}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			cfg := ledgers.DataLakeConfig{Type: kind, Params: params(t)}
			cfg.Params["destination_bucket_path"] = "lake/pubnet"
			src, err := ledgers.NewDataLake(cfg)
			require.NoError(t, err)
			bounds, err := src.Bounds(t.Context())
			require.NoError(t, err)
			require.Equal(t, all, bounds)
			sameAsSample(t, src, all)
			require.ErrorIs(t, drain(src.Ledgers(t.Context(), ledgers.Range{First: first, Last: first + 3})), ledgers.ErrNotFound)
		})
	}
}
