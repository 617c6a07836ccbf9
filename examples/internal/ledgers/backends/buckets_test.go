package backends_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/ledgers/backends"
)

// object is a file of a folder as it lies in the bucket "lake", below the
// prefix "pubnet".
type object struct {
	key     string
	content []byte
}

func objects(t *testing.T, dir string) (all []object) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		key, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		content, err := os.ReadFile(path)
		all = append(all, object{"pubnet/" + filepath.ToSlash(key), content})
		return err
	}))
	return all
}

// busy answers 503 to every ninth request.
func busy(next http.Handler) http.Handler {
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%9 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// fakeS3 serves the bucket and returns the parameters of a lake in it. It lives
// in the region us-east-2, as far as its clients can see.
func fakeS3(t *testing.T, all []object) map[string]string {
	t.Helper()
	store := s3mem.New()
	require.NoError(t, store.CreateBucket("lake"))
	for _, o := range all {
		_, err := store.PutObject("lake", o.key, nil, strings.NewReader(string(o.content)), int64(len(o.content)), nil)
		require.NoError(t, err)
	}
	handler := busy(gofakes3.New(store).Server())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "/us-east-2/s3/") {
			w.Header().Set("X-Amz-Bucket-Region", "us-east-2")
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	// Without these the SDK of S3 looks for credentials on the network.
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "",
	} {
		t.Setenv(name, value)
	}
	return map[string]string{"region": "us-east-2", "endpoint_url": server.URL}
}

// fakeGCS serves the bucket, and makes the process take it for the real one.
func fakeGCS(t *testing.T, all []object) map[string]string {
	t.Helper()
	var initial []fakestorage.Object
	for _, o := range all {
		initial = append(initial, fakestorage.Object{
			ObjectAttrs: fakestorage.ObjectAttrs{BucketName: "lake", Name: o.key},
			Content:     o.content,
		})
	}
	server := httptest.NewUnstartedServer(nil)
	fake, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		InitialObjects: initial, NoListener: true, PublicHost: server.Listener.Addr().String(),
	})
	require.NoError(t, err)
	server.Config.Handler = busy(fake.HTTPHandler())
	server.Start()
	t.Cleanup(server.Close)
	t.Setenv("STORAGE_EMULATOR_HOST", server.URL)
	return map[string]string{}
}

var stores = map[string]func(*testing.T, []object) map[string]string{"S3": fakeS3, "GCS": fakeGCS}

func openBucket(t *testing.T, kind, path string, params map[string]string) *backends.DataLake {
	t.Helper()
	params["destination_bucket_path"] = path
	src, err := backends.NewDataLake(backends.DataLakeConfig{Type: kind, Params: params, RetryWait: time.Millisecond})
	require.NoError(t, err)
	return src
}

// The layout is that of the public network's data lake, below a prefix, with
// its manifest, on servers that speak S3 and GCS and are busy now and then.
func TestDataLakeInABucket(t *testing.T) {
	all := ledgers.Range{First: first, Last: first + 2}
	files := objects(t, writeLake(t, all, datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 64000}, true))
	for kind, serve := range stores {
		t.Run(kind, func(t *testing.T) {
			params := serve(t, files)
			src := openBucket(t, kind, "lake/pubnet", params)
			bounds, err := src.Bounds(t.Context())
			require.NoError(t, err)
			require.Equal(t, all, bounds)
			sameAsSample(t, src, all)
			require.ErrorIs(t, drain(src.Ledgers(t.Context(), ledgers.Range{First: first, Last: first + 3})),
				ledgers.ErrNotFound)

			_, err = openBucket(t, kind, "lake/pubnte", params).Bounds(t.Context())
			require.ErrorContains(t, err, `there are no ledger files at "lake/pubnte"`)
		})
	}
}

// A listing has more than the thousand keys of a page; what is no ledger is
// passed over.
func TestDataLakeInABucketWithManyFiles(t *testing.T) {
	all := ledgers.Range{First: first, Last: first}
	files := objects(t, writeLake(t, all, datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 64000}, true))
	for i := range 1200 {
		files = append(files, object{fmt.Sprintf("pubnet/zz/%04d", i), []byte("x")})
	}
	for kind, serve := range stores {
		t.Run(kind, func(t *testing.T) {
			src := openBucket(t, kind, "lake/pubnet", serve(t, files))
			bounds, err := src.Bounds(t.Context())
			require.NoError(t, err)
			require.Equal(t, all, bounds)
		})
	}
}

func TestS3InTheWrongRegion(t *testing.T) {
	params := fakeS3(t, nil)
	params["region"] = "eu-west-1"
	_, err := openBucket(t, "S3", "lake/pubnet", params).Bounds(t.Context())
	require.ErrorIs(t, err, ledgers.ErrBackend)
	require.ErrorContains(t, err, "region")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, drain(openBucket(t, "S3", "lake", params).Ledgers(ctx, ledgers.Range{First: 1, Last: 1})))
}
