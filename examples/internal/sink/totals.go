package sink

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/withobsrvr/sluice/examples/internal/events"
)

// maxTotals bounds how many pairs of type and asset are told apart. Anybody can
// issue an asset, so without a bound the totals could grow for ever.
const maxTotals = 4096

// OtherAssets stands for the assets past the bound.
const OtherAssets = "(other)"

// A Total counts the events of one type and asset.
type Total struct {
	Type   string `json:"event_type"`
	Asset  string `json:"asset"` // native, CODE:ISSUER, or the contract of a token that is no Stellar asset
	Events int64  `json:"events"`
	Amount string `json:"amount"` // exact sum in the asset's smallest unit; empty for OtherAssets
}

type totalKey struct{ kind, asset string }

type totalValue struct {
	events int64
	// The sum is small plus large; small overflows into large.
	small int64
	large *big.Int
}

// totals is the running sum over everything that was written. It belongs to the
// writer's goroutine; others see its snapshots.
type totals struct {
	byKey  map[totalKey]*totalValue
	byType map[string]int64
	events int64
}

func newTotals(saved []Total, byType map[string]int64) (*totals, error) {
	t := &totals{byKey: map[totalKey]*totalValue{}, byType: map[string]int64{}}
	maps.Copy(t.byType, byType)
	for _, n := range byType {
		t.events += n
	}
	for _, s := range saved {
		v := &totalValue{events: s.Events, large: new(big.Int)}
		if _, ok := v.large.SetString(cmp.Or(s.Amount, "0"), 10); !ok {
			return nil, fmt.Errorf("sink: checkpoint: amount %q is no number", s.Amount)
		}
		t.byKey[totalKey{s.Type, s.Asset}] = v
	}
	return t, nil
}

// add counts the rows of a batch whose schema events.CheckSchema accepted.
func (t *totals) add(rec arrow.RecordBatch) error {
	text := func(column string) *array.String {
		return rec.Column(rec.Schema().FieldIndices(column)[0]).(*array.String)
	}
	kinds, contracts, assetTypes := text(events.ColEventType), text(events.ColContract), text(events.ColAssetType)
	codes, issuers, amounts := text(events.ColAssetCode), text(events.ColAssetIssuer), text(events.ColAmount)
	for i := range int(rec.NumRows()) {
		kind, asset := kinds.Value(i), assetTypes.Value(i)
		switch asset {
		case events.AssetNative:
		case events.AssetContract:
			asset = contracts.Value(i)
		default:
			asset = codes.Value(i) + ":" + issuers.Value(i)
		}
		v := t.at(kind, asset)
		if err := v.add(amounts.Value(i)); err != nil {
			return err
		}
		t.count(kind)
	}
	t.events += rec.NumRows()
	return nil
}

func (t *totals) count(kind string) {
	if _, ok := t.byType[kind]; !ok {
		kind = strings.Clone(kind)
	}
	t.byType[kind]++
}

func (t *totals) at(kind, asset string) *totalValue {
	if v, ok := t.byKey[totalKey{kind, asset}]; ok {
		return v
	}
	// The strings borrow the batch's memory: what stays must be a copy.
	key := totalKey{strings.Clone(kind), strings.Clone(asset)}
	if len(t.byKey) >= maxTotals {
		key.asset = OtherAssets
		if v, ok := t.byKey[key]; ok {
			return v
		}
	}
	v := &totalValue{large: new(big.Int)}
	t.byKey[key] = v
	return v
}

func (v *totalValue) add(amount string) error {
	v.events++
	n, err := strconv.ParseInt(amount, 10, 64)
	if sum := v.small + n; err == nil && (sum > v.small) == (n > 0) {
		v.small = sum
		return nil
	}
	exact, ok := new(big.Int).SetString(amount, 10)
	if !ok {
		return fmt.Errorf("sink: amount %q is no number", amount)
	}
	v.large.Add(v.large, exact)
	return nil
}

func (v *totalValue) amount() string {
	return new(big.Int).Add(v.large, big.NewInt(v.small)).String()
}

// snapshot returns the totals, sorted by type and asset.
func (t *totals) snapshot() []Total {
	out := make([]Total, 0, len(t.byKey))
	for key, v := range t.byKey {
		total := Total{key.kind, key.asset, v.events, v.amount()}
		if key.asset == OtherAssets {
			total.Amount = "" // a sum over different assets means nothing
		}
		out = append(out, total)
	}
	slices.SortFunc(out, func(a, b Total) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Asset, b.Asset))
	})
	return out
}

// TotalsSchema is the schema of the flight [TotalsFlight].
var TotalsSchema = arrow.NewSchema([]arrow.Field{
	{Name: "event_type", Type: arrow.BinaryTypes.String},
	{Name: "asset", Type: arrow.BinaryTypes.String},
	{Name: "events", Type: arrow.PrimitiveTypes.Int64},
	{Name: "amount", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

func totalsBatch(rows []Total) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, TotalsSchema)
	defer b.Release()
	for _, row := range rows {
		b.Field(0).(*array.StringBuilder).Append(row.Type)
		b.Field(1).(*array.StringBuilder).Append(row.Asset)
		b.Field(2).(*array.Int64Builder).Append(row.Events)
		if row.Amount == "" {
			b.Field(3).AppendNull()
		} else {
			b.Field(3).(*array.StringBuilder).Append(row.Amount)
		}
	}
	return b.NewRecordBatch()
}
