package extract

import (
	"encoding/hex"
	"fmt"
	"unicode/utf8"

	"github.com/stellar/go-stellar-sdk/asset"
	"github.com/stellar/go-stellar-sdk/processors/token_transfer"

	"github.com/withobsrvr/sluice/examples/internal/events"
)

// fromSDK converts one event of the SDK's processor. Its ordinal and id are
// left to the caller, which sees its neighbours.
func fromSDK(in *token_transfer.TokenTransferEvent) (events.Event, error) {
	meta := in.GetMeta()
	out := events.Event{
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
		return events.Event{}, fmt.Errorf("event of unknown type %T", body)
	}
	out.AssetType, out.AssetCode, out.AssetIssuer = assetFields(token)
	out.ToMuxedType, out.ToMuxed = muxedFields(meta.GetToMuxedInfo())
	return out, nil
}

func assetFields(token *asset.Asset) (kind, code, issuer string) {
	issued := token.GetIssuedAsset()
	switch {
	case token.GetNative():
		return events.AssetNative, "", ""
	case issued == nil:
		return events.AssetContract, "", ""
	case len(issued.GetAssetCode()) <= 4:
		return events.AssetCredit4, issued.GetAssetCode(), issued.GetIssuer()
	default:
		return events.AssetCredit12, issued.GetAssetCode(), issued.GetIssuer()
	}
}

func muxedFields(info *token_transfer.MuxedInfo) (kind, value string) {
	switch content := info.GetContent().(type) {
	case *token_transfer.MuxedInfo_Id:
		return events.MuxedID, fmt.Sprint(content.Id)
	case *token_transfer.MuxedInfo_Text:
		if utf8.ValidString(content.Text) {
			return events.MuxedText, content.Text
		}
		return events.MuxedTextHex, hex.EncodeToString([]byte(content.Text))
	case *token_transfer.MuxedInfo_Hash:
		return events.MuxedHash, hex.EncodeToString(content.Hash)
	default:
		return "", ""
	}
}
