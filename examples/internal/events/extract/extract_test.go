package extract_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/events/extract"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

func byType(list []events.Event) map[string]int {
	counts := map[string]int{}
	for _, e := range list {
		counts[e.Type]++
	}
	return counts
}

// sample extracts the sample's first n ledgers.
func sample(t testing.TB, n uint32) []events.Extracted {
	t.Helper()
	src, err := ledgers.NewSample(n)
	require.NoError(t, err)
	bounds, err := src.Bounds(t.Context())
	require.NoError(t, err)
	var all []events.Extracted
	for out, err := range extract.Direct(t.Context(), src, bounds) {
		require.NoError(t, err)
		all = append(all, out)
	}
	return all
}

func TestTheTruthBySDK(t *testing.T) {
	all := sample(t, 4)
	require.Len(t, all, 4)
	for i, out := range all {
		require.Equal(t, ledgers.SampleFirst+uint32(i), out.Sequence)
		if i%2 == 0 {
			require.Equal(t, 163, out.Transactions)
			require.Len(t, out.Events, 296)
			require.Equal(t, map[string]int{"fee": 164, "transfer": 132}, byType(out.Events))
			require.Equal(t, time.Date(2024, 9, 2, 10, 50, 19, 0, time.UTC), out.ClosedAt)
		} else {
			require.Equal(t, 249, out.Transactions)
			require.Len(t, out.Events, 666)
			require.Equal(t, map[string]int{"fee": 350, "transfer": 293, "mint": 13, "burn": 10}, byType(out.Events))
			require.Equal(t, time.Date(2025, 9, 3, 0, 10, 28, 0, time.UTC), out.ClosedAt)
		}
	}
}

func TestEventsAreIdentified(t *testing.T) {
	seen := map[string]bool{}
	for _, out := range sample(t, 4) {
		fees := 0
		for _, e := range out.Events {
			require.False(t, seen[e.ID], e.ID)
			seen[e.ID] = true
			require.Equal(t, events.EventID(out.Sequence, e.TxIndex, e.OpIndex, e.Ordinal), e.ID)
			require.Equal(t, out.ClosedAt, e.ClosedAt)
			require.NotZero(t, e.TxIndex)
			require.Len(t, e.TxHash, 64)
			require.Equal(t, e.Type == "fee", e.OpIndex == 0)
			if e.IsTransactionFee() {
				fees++
			}
		}
		require.Equal(t, out.Transactions, fees)
	}
	require.Len(t, seen, 1924)
	require.Less(t, events.EventID(9, 200, 3, 4), events.EventID(10, 1, 1, 0))
	require.Equal(t, "0053312000-0000000163-0000000000-0000000001", events.EventID(53312000, 163, 0, 1))
}

func TestExtractionIsTheSameInEveryRun(t *testing.T) {
	want := sample(t, 2)
	for range 3 {
		require.Equal(t, want, sample(t, 2))
	}
}

func TestFieldsOfRealEvents(t *testing.T) {
	all := sample(t, 2)
	first := all[0].Events[0]
	require.Equal(t, events.Event{
		ID:             "0053312000-0000000001-0000000000-0000000000",
		LedgerSequence: 53312000,
		ClosedAt:       time.Date(2024, 9, 2, 10, 50, 19, 0, time.UTC),
		TxHash:         "07d47d9efe62e9abc80ac5f9d7c01a9c8fbe02ef6dc961c9bd1d813da2c08954",
		TxIndex:        1,
		Type:           "fee",
		Contract:       "CAS3J7GYLGXMF6TDJBBYYSE3HQ6BBSMLNUQ34T6TZMYMW2EVH34XOWMA",
		AssetType:      "native",
		From:           "GAMQQFFSOW7VBIKMDFGGNNJ6XYNQ26MJZAXKKDWAN2PYAJG5WYBSF72B",
		Amount:         "100",
	}, first)
	last := all[0].Events[295]
	require.Equal(t, "-9498682", last.Amount)
	require.Equal(t, uint32(1), last.Ordinal, "a refund is the transaction's second fee")

	kinds := map[string]int{}
	for _, out := range all {
		for _, e := range out.Events {
			kinds[e.AssetType]++
			require.Equal(t, e.AssetType == events.AssetCredit4 || e.AssetType == events.AssetCredit12, e.AssetIssuer != "")
			require.Equal(t, e.Type == "mint", e.From == "")
			require.Equal(t, e.Type == "transfer" || e.Type == "mint", e.To != "")
			require.Equal(t, e.ToMuxedType == "", e.ToMuxed == "")
		}
	}
	require.Equal(t, 962, kinds["native"]+kinds["credit_alphanum4"]+kinds["credit_alphanum12"]+kinds["contract"])
}

func TestBadLedgersAreErrorsThatNameThem(t *testing.T) {
	src, err := ledgers.NewSample(1)
	require.NoError(t, err)
	x := extract.New(src.Info().Passphrase)
	for l, err := range src.Ledgers(t.Context(), ledgers.Range{First: 53312000, Last: 53312000}) {
		require.NoError(t, err)
		flipped := bytes.Clone(l.Raw)
		flipped[3] = 0xff // a version of LedgerCloseMeta that does not exist
		for name, tc := range map[string]struct {
			x   *extract.Extractor
			seq uint32
			raw []byte
		}{
			"empty":            {x, 53312000, nil},
			"cut":              {x, 53312000, l.Raw[:len(l.Raw)-1]},
			"trailing":         {x, 53312000, append(bytes.Clone(l.Raw), 0)},
			"unknown version":  {x, 53312000, flipped},
			"another ledger":   {x, 53312001, l.Raw},
			"wrong passphrase": {extract.New("Test SDF Network ; September 2015"), 53312000, l.Raw},
		} {
			out, err := tc.x.Extract(tc.seq, tc.raw)
			require.ErrorIs(t, err, events.ErrExtract, name)
			var typed *events.Error
			require.ErrorAs(t, err, &typed, name)
			require.Equal(t, tc.seq, typed.Ledger, name)
			require.Zero(t, out, name)
		}
	}
}

func TestDirectStopsAtTheFirstError(t *testing.T) {
	src, err := ledgers.NewSample(3)
	require.NoError(t, err)
	steps := 0
	for out, err := range extract.Direct(t.Context(), src, ledgers.Range{First: 53311999, Last: 53312002}) {
		steps++
		require.ErrorIs(t, err, ledgers.ErrNotFound)
		require.Zero(t, out)
	}
	require.Equal(t, 1, steps)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range extract.Direct(ctx, src, ledgers.Range{First: 53312000, Last: 53312002}) {
		require.ErrorIs(t, err, context.Canceled)
	}
}

func TestEventJSONHasTheColumnNames(t *testing.T) {
	e := sample(t, 1)[0].Events[200]
	e.ToMuxedType, e.ToMuxed, e.OpIndex, e.From, e.To, e.AssetCode, e.AssetIssuer = "id", "7", 1, "f", "t", "c", "i"
	b, err := json.Marshal(e)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(b, &m))
	var want, got []string
	for _, f := range events.Schema.Fields() {
		if f.Name != events.ColAmountDecimal { // the same number as amount
			want = append(want, f.Name)
		}
	}
	for name := range m {
		got = append(got, name)
	}
	slices.Sort(want)
	slices.Sort(got)
	require.Equal(t, want, got)
}

// Bytes from outside never end the process.
func FuzzExtract(f *testing.F) {
	src, err := ledgers.NewSample(1)
	require.NoError(f, err)
	x := extract.New(src.Info().Passphrase)
	var raw []byte
	for l, err := range src.Ledgers(f.Context(), ledgers.Range{First: 53312000, Last: 53312000}) {
		require.NoError(f, err)
		raw = bytes.Clone(l.Raw)
	}
	f.Add(uint32(0), []byte{0xff})
	f.Add(uint32(4), []byte{0, 0, 0, 1})
	f.Add(uint32(100_000), []byte("memo"))
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		mutated := bytes.Clone(raw)
		copy(mutated[int(at)%len(mutated):], patch)
		out, err := x.Extract(53312000, mutated)
		if err != nil {
			require.ErrorIs(t, err, events.ErrExtract)
			require.Zero(t, out)
		}
	})
}

// aside is a folder of dead letters that takes one.
type aside struct{ taken []uint32 }

func (a *aside) SetAside(ledger uint32, _ []byte, cause error) error {
	if len(a.taken) == 1 {
		return cause
	}
	a.taken = append(a.taken, ledger)
	return nil
}

// A ledger that is taken is one without events; one that is not taken is the error
// that it would have been.
func TestPoisonedLedgers(t *testing.T) {
	taker := new(aside)
	x := extract.New("x")
	x.Poisoned = taker
	out, err := x.Extract(7, []byte("poison"))
	require.NoError(t, err)
	require.Equal(t, events.Extracted{Sequence: 7}, out)
	_, err = x.Extract(8, []byte("poison"))
	require.ErrorIs(t, err, events.ErrExtract)
	require.Equal(t, []uint32{7}, taker.taken)
}
