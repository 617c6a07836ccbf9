package server

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// window is gRPC's least flow-control window. A fixed one switches off the
// bandwidth estimate, which answers every message with a ping.
const window = 64 << 10

// GRPCOptions are the options that a server of thousands of mostly idle
// agents wants: small buffers, no bandwidth estimate, messages of at most 1 MiB,
// and keepalive pings that find half-open connections. An agent's messages are a
// hundred bytes; gRPC's defaults would hold 64 KiB of buffers for each, and answer
// each message with a ping. Options of your own go after these and win.
func GRPCOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(1 << 20),
		grpc.ReadBufferSize(1 << 10),
		grpc.WriteBufferSize(2 << 10),
		grpc.HeaderTableSize(0),
		grpc.StaticConnWindowSize(window),
		grpc.StaticStreamWindowSize(window),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}
