package extract

import (
	"testing"

	"github.com/stellar/go-stellar-sdk/asset"
	"github.com/stellar/go-stellar-sdk/processors/token_transfer"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/events"
)

func TestMuxedFields(t *testing.T) {
	for name, tc := range map[string]struct {
		in          *token_transfer.MuxedInfo
		kind, value string
	}{
		"none": {nil, "", ""},
		"id": {
			&token_transfer.MuxedInfo{Content: &token_transfer.MuxedInfo_Id{Id: 18446744073709551615}},
			"id", "18446744073709551615",
		},
		"text": {
			&token_transfer.MuxedInfo{Content: &token_transfer.MuxedInfo_Text{Text: "für dich"}},
			"text", "für dich",
		},
		"text that is no UTF-8": {
			&token_transfer.MuxedInfo{Content: &token_transfer.MuxedInfo_Text{Text: "a\xff"}},
			"text_hex", "61ff",
		},
		"hash": {
			&token_transfer.MuxedInfo{Content: &token_transfer.MuxedInfo_Hash{Hash: []byte{0, 0xab}}},
			"hash", "00ab",
		},
	} {
		t.Run(name, func(t *testing.T) {
			kind, value := muxedFields(tc.in)
			require.Equal(t, tc.kind, kind)
			require.Equal(t, tc.value, value)
		})
	}
}

func TestEveryKindOfEvent(t *testing.T) {
	issued := &asset.Asset{AssetType: &asset.Asset_IssuedAsset{IssuedAsset: &asset.IssuedAsset{
		AssetCode: "LONGER",
		Issuer:    "GI",
	}}}
	meta := &token_transfer.EventMeta{
		LedgerSequence: 9, TransactionIndex: 2, OperationIndex: new(uint32(3)),
		ContractAddress: "C",
	}
	for want, in := range map[events.Event]*token_transfer.TokenTransferEvent{
		{Type: "transfer", From: "f", To: "t", Amount: "5"}: token_transfer.NewTransferEvent(meta, "f", "t", "5", issued),
		{Type: "mint", To: "t", Amount: "5"}:                token_transfer.NewMintEvent(meta, "t", "5", issued),
		{Type: "burn", From: "f", Amount: "5"}:              token_transfer.NewBurnEvent(meta, "f", "5", issued),
		{Type: "clawback", From: "f", Amount: "5"}:          token_transfer.NewClawbackEvent(meta, "f", "5", issued),
		{Type: "fee", From: "f", Amount: "5"}:               token_transfer.NewFeeEvent(meta, "f", "5", issued),
	} {
		got, err := fromSDK(in)
		require.NoError(t, err)
		want.LedgerSequence, want.TxIndex, want.OpIndex, want.Contract = 9, 2, 3, "C"
		want.AssetType, want.AssetCode, want.AssetIssuer = events.AssetCredit12, "LONGER", "GI"
		want.ClosedAt = got.ClosedAt
		require.Equal(t, want, got)
	}
	_, err := fromSDK(&token_transfer.TokenTransferEvent{})
	require.ErrorContains(t, err, "unknown type")

	got, err := fromSDK(token_transfer.NewMintEvent(meta, "t", "5", nil))
	require.NoError(t, err)
	require.Equal(t, events.AssetContract, got.AssetType)
}
