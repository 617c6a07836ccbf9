package ledgers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/stellar/go-stellar-sdk/clients/rpcclient"
	"github.com/stellar/go-stellar-sdk/ingest/ledgerbackend"
	"github.com/stellar/go-stellar-sdk/network"
)

// RPCConfig configures an [RPC]. A zero field is its default.
type RPCConfig struct {
	// URL of the Stellar RPC server. Required.
	URL string

	// Passphrase of the network. Default: the public network.
	Passphrase string

	// Start and End are the first and the last ledger that are offered. Default:
	// the oldest and the latest that the server has. An End that the network has
	// not reached yet is waited for.
	Start, End uint32

	// BufferLedgers is how many ledgers are fetched at once, for each stream.
	// Default 10.
	BufferLedgers uint32

	// HTTP is the client of the requests. Default: one with a timeout of 60 s a
	// request.
	HTTP *http.Client
}

func (c RPCConfig) withDefaults() RPCConfig {
	c.Passphrase = cmp.Or(c.Passphrase, network.PublicNetworkPassphrase)
	c.BufferLedgers = cmp.Or(c.BufferLedgers, 10)
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: time.Minute}
	}
	return c
}

func (c RPCConfig) validate() error {
	var errs []error
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("ledgers: rpc: URL is %q, want http://… or https://…", c.URL))
	}
	if c.End != 0 && c.End < c.Start {
		errs = append(errs, fmt.Errorf("ledgers: rpc: End is %d, want at least Start, %d", c.End, c.Start))
	}
	if c.BufferLedgers > 200 { // what the server answers at most
		errs = append(errs, fmt.Errorf("ledgers: rpc: BufferLedgers is %d, want at most 200", c.BufferLedgers))
	}
	return errors.Join(errs...)
}

// RPC reads ledgers from a Stellar RPC server, which keeps those of the last
// days.
//
// The SDK's backend (v0.7.3) does not close the JSON-RPC client that it makes,
// and gives no way to it, so each stream leaves one idle goroutine behind until
// the process ends. The connections under it are the HTTP client's and shared.
type RPC struct {
	cfg    RPCConfig
	health *rpcclient.Client
	stream ledgerbackend.LedgerStream
}

var _ Source = (*RPC)(nil)

// NewRPC returns a source that asks a Stellar RPC server; Close it in the end.
// It asks nothing yet.
func NewRPC(cfg RPCConfig) (*RPC, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &RPC{
		cfg:    cfg,
		health: rpcclient.NewClient(cfg.URL, cfg.HTTP),
		stream: ledgerbackend.NewRPCStream(ledgerbackend.RPCLedgerBackendOptions{
			RPCServerURL: cfg.URL, BufferSize: cfg.BufferLedgers, HttpClient: cfg.HTTP,
		}, nil),
	}, nil
}

// Close ends the source. Streams that are open go on.
func (s *RPC) Close() error { return s.health.Close() }

// Info names the server.
func (s *RPC) Info() Info {
	return Info{Kind: "rpc", Passphrase: s.cfg.Passphrase, Note: "reading the Stellar RPC server " + redacted(s.cfg.URL)}
}

// redacted drops what may be secret in a URL: providers put keys there.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Bounds returns the configured range; what is not configured is asked for.
func (s *RPC) Bounds(ctx context.Context) (Range, error) {
	health, err := s.health.GetHealth(ctx)
	if err != nil {
		return Range{}, fmt.Errorf("rpc: asking for its health: %w: %w", ErrBackend, err)
	}
	r := Range{cmp.Or(s.cfg.Start, health.OldestLedger), cmp.Or(s.cfg.End, health.LatestLedger)}
	if r.First < health.OldestLedger {
		return Range{}, notFound(r.First, "the server has %d and later", health.OldestLedger)
	}
	return r, nil
}

// Ledgers streams from the server. It waits for ledgers that are in bounds and
// not closed yet.
func (s *RPC) Ledgers(ctx context.Context, r Range) iter.Seq2[Ledger, error] {
	bounds, err := s.Bounds(ctx)
	if err == nil {
		err = CheckBounds(r, bounds)
	}
	if err != nil {
		return failed(err)
	}
	return fromStream(ctx, s.stream, r, false)
}
