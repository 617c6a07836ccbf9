package interceptors_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
	"github.com/withobsrvr/sluice/interceptors/internal/payload"
)

// 28 KB that decode to 256 MiB pass every limit of gRPC and arrow-go. They are
// rejected before the handler has them, by each of the two guards alone.
func TestBombIsRejectedBeforeDecode(t *testing.T) {
	bomb := interceptorstest.Bomb(t, 256<<20)
	require.Less(t, len(bomb.DataBody), 64<<10)
	p, _ := payload.Peek(bomb)
	require.EqualValues(t, 256<<20, p.Uncompressed)
	for name, test := range map[string]struct {
		guards interceptors.Guards
		reason interceptors.Reason
	}{
		"claim": {interceptors.Guards{MaxUncompressedBytes: 64 << 20, MaxRatio: -1}, interceptors.ReasonUncompressedBytes},
		"ratio": {interceptors.Guards{MaxUncompressedBytes: -1}, interceptors.ReasonRatio},
		"bytes": {
			interceptors.Guards{MaxMessageBytes: 1 << 10, MaxUncompressedBytes: -1, MaxRatio: -1},
			interceptors.ReasonMessageBytes,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := newServer(t, interceptors.ServerConfig{Guards: test.guards})
				client := newClient(t, interceptors.ClientConfig{Guards: test.guards})
				f := interceptorstest.Start(t, interceptorstest.Config{
					Server: server, Client: client, Service: &interceptorstest.Service{Send: []*flight.FlightData{bomb}},
				})
				_, err := put(t.Context(), f.Client, []*flight.FlightData{bomb})
				require.Equal(t, codes.InvalidArgument, status.Code(err))
				interceptorstest.Rejected(t, server, test.reason, 1)

				_, err = get(t.Context(), f.Client) // a server may be the hostile one
				require.Equal(t, codes.InvalidArgument, status.Code(err))
				require.ErrorIs(t, err, interceptors.ErrRejected)
				interceptorstest.Rejected(t, client, test.reason, 1)
				idle(t, nil, server, client)
			})
		})
	}
}

func TestHonestCompressionPasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(t, interceptors.ServerConfig{})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
		sent := append(
			interceptorstest.Batches(t, 3, 10_000, ipc.WithZstd()),
			interceptorstest.Batches(t, 3, 10_000, ipc.WithLZ4())...)
		_, err := put(t.Context(), f.Client, sent)
		require.NoError(t, err)
		interceptorstest.Rows(t, server, interceptors.ClassPut, 60_000, 0)
		got := server.Stats().Class(interceptors.ClassPut).Received
		require.Greater(t, got.Uncompressed, int64(6*80_000))
		require.Less(t, got.Uncompressed, int64(6*80_000+8*1024), "bodies as they were, and their headers")
	})
}

// A metadata-only message, which kills arrow-go's own reader, is nothing to us.
func TestMetadataOnlyMessagePasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(t, interceptors.ServerConfig{})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
		sent := interceptorstest.Batches(t, 2, 10)
		sent = append(sent[:2:2], &flight.FlightData{AppMetadata: []byte("checkpoint")}, sent[2])
		_, err := put(t.Context(), f.Client, sent)
		require.NoError(t, err)
		interceptorstest.Rows(t, server, interceptors.ClassPut, 20, 0)
	})
}

// A frame of a 512 MiB window, 200 bytes long, with a claim of 800.
func TestWindowIsRejectedBeforeDecode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		frame := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 19 << 3, 0x01, 0x04, 0}, make([]byte, 128)...)
		m := interceptorstest.Batches(t, 1, 100, ipc.WithZstd())[1]
		body := append(binary.LittleEndian.AppendUint64(nil, 800), frame...)
		for n := range 8 { // the length of its only buffer, before it was padded
			length := binary.LittleEndian.AppendUint64(nil, uint64(len(m.DataBody)-n))
			if at := bytes.LastIndex(m.DataHeader, length); at >= 0 {
				binary.LittleEndian.PutUint64(m.DataHeader[at:], uint64(len(body)))
			}
		}
		m.DataBody = body
		server := newServer(t, interceptors.ServerConfig{})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
		_, err := put(t.Context(), f.Client, []*flight.FlightData{m})
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		interceptorstest.Rejected(t, server, interceptors.ReasonUncompressedBytes, 1)
		idle(t, nil, server)
	})
}
