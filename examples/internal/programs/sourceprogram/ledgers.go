package sourceprogram

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/stellar/go-stellar-sdk/network"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/deadletter"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/ledgers/backends"
)

// ledgerConfig is where a source takes its ledgers from.
type ledgerConfig struct {
	kind       string
	count      uint32
	start, end uint32
	follow     bool // wait for what is not there yet
	passphrase string

	lakeType, lakePath, lakeRegion, lakeEndpoint string
	ledgersPerFile, filesPerPartition            int

	rpcURL string

	deadLetters string
}

func readLedgerConfig(e *component.Env, secure component.Security) ledgerConfig {
	c := ledgerConfig{
		kind: e.OneOf("LEDGER_SOURCE", "sample", "where ledgers come from", "sample", "datalake", "rpc"),
		count: e.Ledger("LEDGER_COUNT", 0,
			"how many ledgers to offer or to want; a sink that gets fewer ends with status 3; "+
				"unset: 200 of the sample, else no limit"),
		start: e.Ledger("START_LEDGER", 0, "first ledger, of a data lake or RPC server; unset: its oldest"),
		end: e.Ledger("END_LEDGER", 0,
			"last ledger, waited for if need be; with LEDGER_COUNT what comes first ends it; "+
				"with neither the network is followed"),
		passphrase: e.String("NETWORK_PASSPHRASE", network.PublicNetworkPassphrase,
			"passphrase of the network that the ledgers belong to"),
		lakeType: e.OneOf("DATALAKE_TYPE", "Filesystem", "store of the data lake", "Filesystem", "S3", "GCS"),
		lakePath: e.String("DATALAKE_PATH", "",
			"folder of the data lake, or bucket and prefix, with or without s3:// or gs://"),
		lakeRegion:   e.String("DATALAKE_REGION", "", "region of an S3 bucket"),
		lakeEndpoint: e.URL("DATALAKE_ENDPOINT_URL", "S3 server that is not Amazon's"),
		ledgersPerFile: e.Int("DATALAKE_LEDGERS_PER_FILE", 0, 0, 1<<20,
			"layout of a data lake; 0: what the lake's manifest says"),
		filesPerPartition: e.Int("DATALAKE_FILES_PER_PARTITION", 0, 0, 1<<24,
			"layout of a data lake; 0: what the lake's manifest says"),
		rpcURL: e.URL("RPC_URL", "URL of the Stellar RPC server, with LEDGER_SOURCE=rpc"),
	}
	c.deadLetters = component.DeadLetters(e)
	if c.end != 0 && c.end < c.start {
		e.Reject("END_LEDGER", fmt.Sprint(c.end), fmt.Sprintf("at least START_LEDGER, which is %d", c.start))
	}
	if c.kind == "sample" {
		c.count = cmp.Or(c.count, 200)
		if c.start != 0 && c.start != ledgers.SampleFirst {
			e.Reject("START_LEDGER", fmt.Sprint(c.start), fmt.Sprintf("unset with LEDGER_SOURCE=sample, which begins at %d",
				ledgers.SampleFirst))
		}
		if c.end >= ledgers.SampleFirst {
			c.count = min(c.count, c.end-ledgers.SampleFirst+1)
		}
	}
	c.follow = c.kind != "sample" && (c.end != 0 || c.count == 0)
	if c.start != 0 && c.count != 0 {
		last := uint32(min(uint64(c.start)+uint64(c.count)-1, math.MaxUint32))
		if c.end == 0 || c.end > last {
			c.end = last
		}
	}
	switch scheme, _, ok := strings.Cut(c.lakePath, "://"); {
	case c.kind == "datalake" && ok && scheme != schemes[c.lakeType]:
		e.Reject("DATALAKE_PATH", c.lakePath, fmt.Sprintf("the path of a store of DATALAKE_TYPE=%s", c.lakeType))
	case c.kind == "datalake" && c.lakePath == "":
		e.Reject("DATALAKE_PATH", "", "the folder of the data lake, or bucket and prefix, with LEDGER_SOURCE=datalake")
	case c.kind == "datalake" && c.lakeType == "S3" && c.lakeRegion == "":
		e.Reject("DATALAKE_REGION", "", "the region of the bucket, with DATALAKE_TYPE=S3")
	case c.kind == "rpc" && !secure.PermitsURL(c.rpcURL):
		e.Reject("RPC_URL", e.Redactor().Text(c.rpcURL), "https://, or a loopback address, or ALLOW_PLAINTEXT=true")
	case c.kind == "datalake" && !secure.PermitsURL(c.lakeEndpoint):
		e.Reject("DATALAKE_ENDPOINT_URL", e.Redactor().Text(c.lakeEndpoint),
			"https://, or a loopback address, or ALLOW_PLAINTEXT=true")
	case c.kind == "rpc" && c.rpcURL == "":
		e.Reject("RPC_URL", "", "the http(s) URL of a Stellar RPC server, with LEDGER_SOURCE=rpc")
	}
	return c
}

// schemes are those of URLs of the stores.
var schemes = map[string]string{"S3": "s3", "GCS": "gs"}

// bucketPath is bucket/prefix of a path that may be a URL.
func bucketPath(path string) string {
	if _, after, ok := strings.Cut(path, "://"); ok {
		path = after
	}
	return strings.Trim(path, "/")
}

// OpenLedgers opens the ledgers that a source with this environment serves.
func OpenLedgers(ctx context.Context, lookup func(string) (string, bool)) (ledgers.Source, error) {
	env := component.NewEnv(lookup)
	c := readLedgerConfig(env, component.ReadSecurity(env, "localhost"))
	if err := env.Usage(); err != nil {
		return nil, err
	}
	src, err := c.open(ctx)
	if err == nil && c.deadLetters != "" {
		var folder *deadletter.Folder
		folder, err = deadletter.Open(c.deadLetters, nil)
		src = deadletter.Source{Source: src, Folder: folder}
	}
	return src, env.Redactor().Error(err)
}

// open opens the source, cut to the number of ledgers that was asked for: where
// it begins may be known to the store alone.
func (c ledgerConfig) open(ctx context.Context) (ledgers.Source, error) {
	src, err := c.openAll()
	if err != nil || c.kind == "sample" || c.count == 0 || c.start != 0 {
		return src, err
	}
	bounds, err := src.Bounds(ctx)
	if err != nil {
		return nil, err
	}
	c.start = bounds.First
	c.end = uint32(min(uint64(bounds.First)+uint64(c.count)-1, uint64(bounds.Last)))
	return c.openAll()
}

func (c ledgerConfig) openAll() (ledgers.Source, error) {
	switch c.kind {
	case "datalake":
		parameters := map[string]string{}
		put := func(name, value string) {
			if value != "" {
				parameters[name] = value
			}
		}
		if c.lakeType == "Filesystem" {
			put("destination_path", c.lakePath)
		} else {
			put("destination_bucket_path", bucketPath(c.lakePath))
		}
		put("region", c.lakeRegion)
		put("endpoint_url", c.lakeEndpoint)
		src, err := backends.NewDataLake(backends.DataLakeConfig{
			Type: c.lakeType, Params: parameters, Passphrase: c.passphrase, Start: c.start, End: c.end, Follow: c.follow,
			LedgersPerFile: uint32(c.ledgersPerFile), FilesPerPartition: uint32(c.filesPerPartition),
		})
		if err != nil {
			return nil, &component.UsageError{Err: err}
		}
		return src, nil
	case "rpc":
		src, err := backends.NewRPC(backends.RPCConfig{
			URL: c.rpcURL, Passphrase: c.passphrase, Start: c.start, End: c.end,
			Follow: c.follow,
		})
		if err != nil {
			return nil, &component.UsageError{Err: err}
		}
		return src, nil
	}
	return ledgers.NewSample(c.count)
}
