package source

import (
	"github.com/apache/arrow-go/v18/arrow"
)

// The columns of the ledgers.
const (
	ColLedgerSequence = "ledger_sequence"
	ColClosedAt       = "closed_at"
	ColLedgerHash     = "ledger_hash"
	ColPreviousHash   = "previous_ledger_hash"
	ColProtocol       = "protocol_version"
	ColTransactions   = "transaction_count"
	ColSuccessful     = "successful_transaction_count"
	ColOperations     = "operation_count"
	ColXDRBytes       = "xdr_bytes" // of the whole ledger
	ColPart           = "part"      // from 0
	ColParts          = "parts"     // 1 for a ledger that is in one row
	ColXDR            = "xdr"       // LedgerCloseMeta, or this part of it
)

// MetaPassphrase is the key of the schema's metadata that holds the passphrase
// of the ledgers' network: whoever decodes them needs it.
const MetaPassphrase = "sluice.network_passphrase"

// Schema returns the schema of the ledgers of the network with this passphrase.
// One row is one ledger, or one part of a big one.
func Schema(passphrase string) *arrow.Schema {
	meta := arrow.NewMetadata(
		[]string{"sluice.flight", "sluice.schema_version", MetaPassphrase},
		[]string{"ledgers", "1", passphrase},
	)
	return arrow.NewSchema([]arrow.Field{
		{Name: ColLedgerSequence, Type: arrow.PrimitiveTypes.Uint32},
		{Name: ColClosedAt, Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
		{Name: ColLedgerHash, Type: arrow.BinaryTypes.String},
		{Name: ColPreviousHash, Type: arrow.BinaryTypes.String},
		{Name: ColProtocol, Type: arrow.PrimitiveTypes.Uint32},
		{Name: ColTransactions, Type: arrow.PrimitiveTypes.Uint32},
		{Name: ColSuccessful, Type: arrow.PrimitiveTypes.Uint32},
		{Name: ColOperations, Type: arrow.PrimitiveTypes.Uint32},
		{Name: ColXDRBytes, Type: arrow.PrimitiveTypes.Int64},
		{Name: ColPart, Type: arrow.PrimitiveTypes.Uint32},
		{Name: ColParts, Type: arrow.PrimitiveTypes.Uint32},
		{Name: ColXDR, Type: arrow.BinaryTypes.Binary},
	}, &meta)
}
