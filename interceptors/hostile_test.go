package interceptors

import (
	"encoding/binary"
	"math"
	"testing"
	"testing/synctest"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// repeated receives the same message for ever.
type repeated struct {
	nullStream
	header []byte
}

func (r *repeated) RecvMsg(m any) error {
	m.(*flight.FlightData).DataHeader = r.header
	return nil
}

// A batch says itself how many rows it has. One that claims as many as there are
// numbers must not fill the gate for everybody else, nor turn the sums.
func TestHostileRowsFillNothing(t *testing.T) {
	for _, rows := range []uint64{math.MaxInt64, math.MaxInt64 - 1, 1 << 62} {
		synctest.Test(t, func(t *testing.T) {
			gate, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 10}})
			require.NoError(t, err)
			s, err := NewServer(ServerConfig{Throttler: gate, StallTimeout: -1})
			require.NoError(t, err)
			header := append(batchHeader(0), 0, 0, 0, 0)
			binary.LittleEndian.PutUint64(header[44:], rows)
			info := &grpc.StreamServerInfo{FullMethod: flightService + "DoPut", IsClientStream: true, IsServerStream: true}
			put := func(header []byte, handle func(grpc.ServerStream)) {
				stream := &repeated{nullStream{ctx: t.Context()}, header}
				require.NoError(t, s.interceptStream(nil, stream, info, func(_ any, ss grpc.ServerStream) error {
					for range 3 {
						if err := ss.RecvMsg(new(flight.FlightData)); err != nil {
							return err
						}
					}
					handle(ss)
					return nil
				}))
			}
			put(header, func(grpc.ServerStream) { // its third message is in flight
				put(batchHeader(7), func(grpc.ServerStream) {})
			})
			require.Positive(t, s.Stats().Class(ClassPut).Received.Rows)
			require.Zero(t, gate.InFlight())
		})
	}
}
