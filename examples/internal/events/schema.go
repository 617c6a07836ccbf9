package events

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
)

// The columns of [Schema].
const (
	ColEventID        = "event_id"
	ColLedgerSequence = "ledger_sequence"
	ColClosedAt       = "closed_at"
	ColTxHash         = "tx_hash"
	ColTxIndex        = "tx_index"
	ColOpIndex        = "op_index"
	ColOrdinal        = "ordinal"
	ColEventType      = "event_type"
	ColContract       = "contract"
	ColAssetType      = "asset_type"
	ColAssetCode      = "asset_code"
	ColAssetIssuer    = "asset_issuer"
	ColFrom           = "from_address"
	ColTo             = "to_address"
	ColAmount         = "amount"
	ColAmountDecimal  = "amount_decimal"
	ColToMuxedType    = "to_muxed_type"
	ColToMuxed        = "to_muxed"
)

// Schema is the schema of the batches, one row an event. The text columns are
// plain strings, not dictionaries: dictionaries that differ from batch to batch
// make Parquet files several times bigger.
var Schema = arrow.NewSchema([]arrow.Field{
	{Name: ColEventID, Type: arrow.BinaryTypes.String},
	{Name: ColLedgerSequence, Type: arrow.PrimitiveTypes.Uint32},
	{Name: ColClosedAt, Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
	{Name: ColTxHash, Type: arrow.BinaryTypes.String},
	{Name: ColTxIndex, Type: arrow.PrimitiveTypes.Uint32},
	{Name: ColOpIndex, Type: arrow.PrimitiveTypes.Uint32, Nullable: true},
	{Name: ColOrdinal, Type: arrow.PrimitiveTypes.Uint32},
	{Name: ColEventType, Type: arrow.BinaryTypes.String},
	{Name: ColContract, Type: arrow.BinaryTypes.String},
	{Name: ColAssetType, Type: arrow.BinaryTypes.String},
	{Name: ColAssetCode, Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: ColAssetIssuer, Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: ColFrom, Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: ColTo, Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: ColAmount, Type: arrow.BinaryTypes.String},
	{Name: ColAmountDecimal, Type: &arrow.Decimal128Type{Precision: 38}, Nullable: true},
	{Name: ColToMuxedType, Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: ColToMuxed, Type: arrow.BinaryTypes.String, Nullable: true},
}, schemaMetadata)

var schemaMetadata = new(arrow.NewMetadata(
	[]string{"sluice.flight", "sluice.schema_version"},
	[]string{FlightName, "1"},
))

// CheckSchema returns an error that names the first difference between got and
// [Schema]. Metadata does not matter.
func CheckSchema(got *arrow.Schema) error {
	if got.NumFields() != Schema.NumFields() {
		return fmt.Errorf("events: %d columns, want %d", got.NumFields(), Schema.NumFields())
	}
	for i, want := range Schema.Fields() {
		if f := got.Field(i); f.Name != want.Name || !arrow.TypeEqual(f.Type, want.Type) {
			return fmt.Errorf("events: column %d is %s %s, want %s %s", i, f.Name, f.Type, want.Name, want.Type)
		}
	}
	return nil
}
