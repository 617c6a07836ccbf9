package backends

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/stellar/go-stellar-sdk/clients/rpcclient"
	"github.com/stellar/go-stellar-sdk/network"
	protocol "github.com/stellar/go-stellar-sdk/protocols/rpc"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// RPCConfig configures an [RPC]. A zero field is its default.
type RPCConfig struct {
	// URL of the Stellar RPC server. Required.
	URL string

	// Passphrase of the network. Default: the public network.
	Passphrase string

	// Start and End are the first and the last ledger that are offered. Default:
	// the oldest and the latest that the server has.
	Start, End uint32

	// Follow waits for the ledgers that are not there yet, up to End, or for ever
	// without one. Otherwise the latest that is there is the last.
	Follow bool

	// Poll is how often a stream at the tip asks for the next ledger. Default 2 s.
	Poll time.Duration

	// BufferLedgers is how many ledgers are asked for at once, for each stream.
	// Default 5, at most 20. A server that answers fewer is asked for fewer.
	BufferLedgers uint32

	// MaxAnswerBytes is the largest answer that is accepted. Default 64 MiB.
	MaxAnswerBytes int64

	// Retries is how often a question is repeated that the server was too busy
	// for or that it did not get, and RetryWait the first wait, which doubles.
	// What the server says in Retry-After comes first, up to 5 minutes. Default 5
	// times, 500 ms.
	Retries   uint32
	RetryWait time.Duration

	// HTTP is the client of the requests. Default: one with a timeout of 60 s a
	// request.
	HTTP *http.Client
}

func (c RPCConfig) withDefaults() RPCConfig {
	c.Passphrase = cmp.Or(c.Passphrase, network.PublicNetworkPassphrase)
	c.Poll = cmp.Or(c.Poll, 2*time.Second)
	c.BufferLedgers = cmp.Or(c.BufferLedgers, 5)
	c.MaxAnswerBytes = cmp.Or(c.MaxAnswerBytes, 64<<20)
	c.Retries = cmp.Or(c.Retries, 5)
	c.RetryWait = cmp.Or(c.RetryWait, 500*time.Millisecond)
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: time.Minute}
	}
	return c
}

func (c RPCConfig) validate() error {
	var errs []error
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("ledgers: rpc: URL is %s, want http://… or https://…", redacted(c.URL)))
	}
	if c.End != 0 && c.End < c.Start {
		errs = append(errs, fmt.Errorf("ledgers: rpc: End is %d, want at least Start, %d", c.End, c.Start))
	}
	if c.BufferLedgers > 20 { // what stellar-rpc answers at most
		errs = append(errs, fmt.Errorf("ledgers: rpc: BufferLedgers is %d, want at most 20", c.BufferLedgers))
	}
	return errors.Join(errs...)
}

// RPC reads ledgers from a Stellar RPC server, which keeps those of the last
// days.
type RPC struct {
	cfg    RPCConfig
	client *rpcclient.Client
	latest atomic.Uint32
	limit  atomic.Uint32 // ledgers a call
}

var _ ledgers.Source = (*RPC)(nil)

// NewRPC returns a source that asks a Stellar RPC server; Close it in the end.
// It asks nothing yet.
func NewRPC(cfg RPCConfig) (*RPC, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &RPC{cfg: cfg, client: rpcclient.NewClient(cfg.URL, cfg.retrying())}
	s.limit.Store(cfg.BufferLedgers)
	return s, nil
}

// Close ends the source. Streams that are open fail.
func (s *RPC) Close() error { return s.client.Close() }

// Info names the server, without what may be secret in its URL.
func (s *RPC) Info() ledgers.Info {
	return ledgers.Info{
		Kind: "rpc", Passphrase: s.cfg.Passphrase,
		Note: "reading the Stellar RPC server " + redacted(s.cfg.URL),
	}
}

// redacted drops what may be secret in a URL: providers put keys there.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "(a URL)"
	}
	return u.Scheme + "://" + u.Host
}

// Latest is the latest ledger of the server when it was last asked; 0 before.
func (s *RPC) Latest() uint32 { return s.latest.Load() }

// Bounds returns what the server has now of the configured range. What the
// server has evicted is in it no more.
func (s *RPC) Bounds(ctx context.Context) (ledgers.Range, error) {
	has, err := s.has(ctx)
	if err != nil {
		return ledgers.Range{}, fmt.Errorf("rpc: asking for its health: %w: %w", ledgers.ErrBackend, err)
	}
	return clamp(s.cfg.Start, s.cfg.End, has, s.cfg.Follow)
}

func (s *RPC) has(ctx context.Context) (ledgers.Range, error) {
	health, err := s.client.GetHealth(ctx)
	if err != nil {
		return ledgers.Range{}, s.clean(err)
	}
	s.latest.Store(health.LatestLedger)
	return ledgers.Range{First: health.OldestLedger, Last: health.LatestLedger}, nil
}

// clean removes the server's URL from an error: net/http puts it there, with
// whatever key is in it.
func (s *RPC) clean(err error) error {
	if failure, ok := errors.AsType[*url.Error](err); ok {
		failure.URL = redacted(failure.URL)
	}
	if text := err.Error(); strings.Contains(text, s.cfg.URL) {
		return errors.New(strings.ReplaceAll(text, s.cfg.URL, redacted(s.cfg.URL)))
	}
	return err
}

// Ledgers streams from the server. It waits for ledgers that are in bounds and
// not closed yet.
func (s *RPC) Ledgers(ctx context.Context, r ledgers.Range) iter.Seq2[ledgers.Ledger, error] {
	bounds, err := s.Bounds(ctx)
	if err == nil {
		err = ledgers.CheckBounds(r, bounds)
	}
	if err != nil {
		return failed(err)
	}
	tip := func(ctx context.Context) (uint32, error) {
		has, err := s.has(ctx)
		return has.Last, err
	}
	return chained(r.First, follow(ctx, r, s.cfg.Poll, tip, s.read))
}

// read yields the ledgers of r, page by page.
func (s *RPC) read(ctx context.Context, r ledgers.Range) stream {
	return func(yield func(ledgers.Ledger, error) bool) {
		for next := uint64(r.First); next <= uint64(r.Last); {
			page, err := s.page(ctx, uint32(next), uint64(r.Last)-next+1)
			if err != nil {
				yield(ledgers.Ledger{}, err)
				return
			}
			for _, info := range page {
				if next > uint64(r.Last) {
					return
				}
				seq := uint32(next)
				if info.Sequence != seq {
					yield(ledgers.Ledger{}, notFound(seq, "the server left it out: it answered with %d", info.Sequence))
					return
				}
				raw, err := base64.StdEncoding.DecodeString(info.LedgerMetadata)
				if err != nil {
					yield(ledgers.Ledger{}, corrupt(seq, "%w", err))
					return
				}
				if !yield(ledgers.Ledger{Sequence: seq, Raw: raw}, nil) {
					return
				}
				next++
			}
		}
	}
}

// tooMany is how a server says how many ledgers it answers at most.
var tooMany = regexp.MustCompile(`limit must not exceed (\d+)`)

// page asks for at most n ledgers from seq on and returns at least one.
func (s *RPC) page(ctx context.Context, seq uint32, n uint64) ([]protocol.LedgerInfo, error) {
	for {
		limit := min(uint64(s.limit.Load()), n)
		answer, err := s.client.GetLedgers(ctx, protocol.GetLedgersRequest{
			StartLedger: seq, Pagination: &protocol.LedgerPaginationOptions{Limit: uint(limit)},
		})
		if err == nil {
			if len(answer.Ledgers) == 0 {
				return nil, notFound(seq, "the server answered without a ledger, and has %d to %d", answer.OldestLedger,
					answer.LatestLedger)
			}
			return answer.Ledgers, nil
		}
		if match := tooMany.FindStringSubmatch(err.Error()); match != nil {
			most, _ := strconv.ParseUint(match[1], 10, 32)
			if 0 < most && most < limit {
				s.limit.Store(uint32(most))
				continue
			}
		}
		// Between two questions the server may have evicted it.
		if has, unhealthy := s.has(ctx); unhealthy == nil && seq < has.First {
			return nil, notFound(seq, "the server keeps it no longer: it has %v", has)
		}
		return nil, s.clean(err)
	}
}

// retrying is an HTTP client that repeats what a busy server (429, 503) or a
// broken connection kept from being answered, after what Retry-After says.
func (c RPCConfig) retrying() *http.Client {
	client := retryablehttp.NewClient()
	client.Logger = nil
	client.RetryMax = int(c.Retries)
	client.RetryWaitMin, client.RetryWaitMax = c.RetryWait, 30*c.RetryWait
	client.Backoff = func(low, high time.Duration, attempt int, r *http.Response) time.Duration {
		return min(retryablehttp.DefaultBackoff(low, high, attempt, r), maxRetryAfter)
	}
	client.ErrorHandler = retryablehttp.PassthroughErrorHandler
	inner := *c.HTTP
	inner.Transport = bounded{inner.Transport, c.MaxAnswerBytes}
	client.HTTPClient = &inner
	return client.StandardClient()
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = 5 * time.Minute

// bounded cuts answers off, and rejects those that are not to the question: the
// client would wait for its own for ever.
type bounded struct {
	next http.RoundTripper
	most int64
}

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	next := b.next
	if next == nil {
		next = http.DefaultTransport
	}
	question, err := io.ReadAll(r.Body)
	if err = errors.Join(err, r.Body.Close()); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(question))
	answer, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = http.MaxBytesReader(nil, answer.Body, b.most)
	if answer.StatusCode == http.StatusOK {
		err = answers(answer, question)
	}
	if err != nil {
		answer.Body.Close()
		return nil, err
	}
	return answer, nil
}

// answers checks that an answer has the id of the question. It reads as much of
// it as that takes, which as a rule is its beginning, and puts that back.
func answers(answer *http.Response, question []byte) error {
	var asked struct{ ID json.RawMessage }
	if err := json.Unmarshal(question, &asked); err != nil {
		return err
	}
	var read bytes.Buffer
	in := json.NewDecoder(io.TeeReader(answer.Body, &read))
	if start, err := in.Token(); err != nil || start != json.Delim('{') {
		return errors.Join(errors.New("the server's answer is no JSON-RPC"), err)
	}
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return fmt.Errorf("the server's answer is no JSON-RPC: %w", err)
		}
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return fmt.Errorf("the server's answer is no JSON-RPC: %w", err)
		}
		if key != "id" {
			continue
		}
		if !bytes.Equal(value, asked.ID) {
			return errors.New("the server's answer is to another question")
		}
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(&read, answer.Body), answer.Body}
		return nil
	}
	return errors.New("the server's answer says no question")
}
