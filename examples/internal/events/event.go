package events

import (
	"encoding/hex"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/stellar/go-stellar-sdk/asset"
	"github.com/stellar/go-stellar-sdk/processors/token_transfer"
)

// FlightName is the name of the Flight that carries events.
const FlightName = "ttp_events"

// Event is one token-transfer event, one row. Its JSON names are the column
// names of [Schema]; an empty optional field is null there.
type Event struct {
	ID             string    `json:"event_id"`
	LedgerSequence uint32    `json:"ledger_sequence"`
	ClosedAt       time.Time `json:"closed_at"`
	TxHash         string    `json:"tx_hash"`
	TxIndex        uint32    `json:"tx_index"`           // from 1, within the ledger
	OpIndex        uint32    `json:"op_index,omitempty"` // from 1, within the transaction; 0 = none: a fee
	Ordinal        uint32    `json:"ordinal"`            // from 0, within the operation (or the fees of the transaction)
	Type           string    `json:"event_type"`         // transfer, mint, burn, clawback, fee
	Contract       string    `json:"contract"`           // C… address that emitted it or that stands for the asset
	AssetType      string    `json:"asset_type"`         // see the Asset… constants
	AssetCode      string    `json:"asset_code,omitempty"`
	AssetIssuer    string    `json:"asset_issuer,omitempty"`
	From           string    `json:"from_address,omitempty"` // absent for mint
	To             string    `json:"to_address,omitempty"`   // absent for burn, clawback and fee
	Amount         string    `json:"amount"`                 // whole number of the asset's smallest unit; negative: a fee refund
	ToMuxedType    string    `json:"to_muxed_type,omitempty"`
	ToMuxed        string    `json:"to_muxed,omitempty"` // written as ToMuxedType says
}

// The asset types. The first three are Stellar's own names.
const (
	AssetNative   = "native"
	AssetCredit4  = "credit_alphanum4"
	AssetCredit12 = "credit_alphanum12"
	AssetContract = "contract" // a contract's own token, which is no Stellar asset
)

// The forms of ToMuxed. A memo text is any bytes, but a column of text is
// UTF-8, so a text that is not is written in hexadecimal and says so.
const (
	MuxedID      = "id"       // a decimal number: the muxed account's id or an id memo
	MuxedText    = "text"     // a memo text
	MuxedTextHex = "text_hex" // a memo text that is not UTF-8
	MuxedHash    = "hash"     // a hash memo in hexadecimal
)

// IsTransactionFee says whether e is the fee that every transaction pays once,
// so that counting these counts transactions. A refund is no such event.
func (e *Event) IsTransactionFee() bool {
	return e.Type == token_transfer.FeeEvent && e.OpIndex == 0 && e.Ordinal == 0
}

// EventID returns the id of an event: its four coordinates, padded so that ids
// sort as text the way the coordinates sort as numbers.
func EventID(ledger, txIndex, opIndex, ordinal uint32) string {
	return fmt.Sprintf("%010d-%010d-%010d-%010d", ledger, txIndex, opIndex, ordinal)
}

// fromSDK converts one event of the SDK's processor. Its ordinal and id are
// left to the caller, which sees its neighbours.
func fromSDK(in *token_transfer.TokenTransferEvent) (Event, error) {
	meta := in.GetMeta()
	out := Event{
		LedgerSequence: meta.GetLedgerSequence(),
		ClosedAt:       meta.GetClosedAt().AsTime(),
		TxHash:         meta.GetTxHash(),
		TxIndex:        meta.GetTransactionIndex(),
		OpIndex:        meta.GetOperationIndex(),
		Type:           in.GetEventType(),
		Contract:       meta.GetContractAddress(),
	}
	var token *asset.Asset
	switch body := in.GetEvent().(type) {
	case *token_transfer.TokenTransferEvent_Transfer:
		token, out.Amount = body.Transfer.GetAsset(), body.Transfer.GetAmount()
		out.From, out.To = body.Transfer.GetFrom(), body.Transfer.GetTo()
	case *token_transfer.TokenTransferEvent_Mint:
		token, out.Amount, out.To = body.Mint.GetAsset(), body.Mint.GetAmount(), body.Mint.GetTo()
	case *token_transfer.TokenTransferEvent_Burn:
		token, out.Amount, out.From = body.Burn.GetAsset(), body.Burn.GetAmount(), body.Burn.GetFrom()
	case *token_transfer.TokenTransferEvent_Clawback:
		token, out.Amount, out.From = body.Clawback.GetAsset(), body.Clawback.GetAmount(), body.Clawback.GetFrom()
	case *token_transfer.TokenTransferEvent_Fee:
		token, out.Amount, out.From = body.Fee.GetAsset(), body.Fee.GetAmount(), body.Fee.GetFrom()
	default:
		return Event{}, fmt.Errorf("event of unknown type %T", body)
	}
	out.AssetType, out.AssetCode, out.AssetIssuer = assetFields(token)
	out.ToMuxedType, out.ToMuxed = muxedFields(meta.GetToMuxedInfo())
	return out, nil
}

func assetFields(token *asset.Asset) (kind, code, issuer string) {
	issued := token.GetIssuedAsset()
	switch {
	case token.GetNative():
		return AssetNative, "", ""
	case issued == nil:
		return AssetContract, "", ""
	case len(issued.GetAssetCode()) <= 4:
		return AssetCredit4, issued.GetAssetCode(), issued.GetIssuer()
	default:
		return AssetCredit12, issued.GetAssetCode(), issued.GetIssuer()
	}
}

func muxedFields(info *token_transfer.MuxedInfo) (kind, value string) {
	switch content := info.GetContent().(type) {
	case *token_transfer.MuxedInfo_Id:
		return MuxedID, fmt.Sprint(content.Id)
	case *token_transfer.MuxedInfo_Text:
		if utf8.ValidString(content.Text) {
			return MuxedText, content.Text
		}
		return MuxedTextHex, hex.EncodeToString([]byte(content.Text))
	case *token_transfer.MuxedInfo_Hash:
		return MuxedHash, hex.EncodeToString(content.Hash)
	default:
		return "", ""
	}
}
