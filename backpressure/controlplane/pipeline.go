package controlplane

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/withobsrvr/sluice/backpressure"
)

// PipelineKey is the metadata key in which the pipeline's id travels with calls
// from hop to hop, and under which a component registers it.
const PipelineKey = "sluice-pipeline-id"

type pipelineKey struct{}

// WithPipelineID returns a context whose calls belong to the pipeline id.
func WithPipelineID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, pipelineKey{}, id)
}

// PipelineID returns the id of the pipeline that ctx belongs to: as given to
// [WithPipelineID], else as the call that is being served brought it. "": none.
func PipelineID(ctx context.Context) string {
	if id, ok := ctx.Value(pipelineKey{}).(string); ok {
		return id
	}
	if values := metadata.ValueFromIncomingContext(ctx, PipelineKey); len(values) > 0 && fitsMetadata(values[0]) {
		return values[0]
	}
	return ""
}

// PipelineDialOptions make a connection's calls carry the pipeline id of their
// context, or own if that has none. An id that [PipelineID] would not take is
// left out. Servers need no option: PipelineID reads what came in.
func PipelineDialOptions(own string) []grpc.DialOption {
	send := func(ctx context.Context) context.Context {
		id := PipelineID(ctx)
		if id == "" {
			id = own
		}
		if sent, _ := metadata.FromOutgoingContext(ctx); !fitsMetadata(id) || len(sent.Get(PipelineKey)) > 0 {
			return ctx
		}
		return metadata.AppendToOutgoingContext(ctx, PipelineKey, id)
	}
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(
			ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
			invoke grpc.UnaryInvoker, options ...grpc.CallOption,
		) error {
			return invoke(send(ctx), method, req, reply, conn, options...)
		}),
		grpc.WithChainStreamInterceptor(func(
			ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
			stream grpc.Streamer, options ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			return stream(send(ctx), desc, conn, method, options...)
		}),
	}
}

// fitsMetadata: an id by the rules of components' ids, in the printable ASCII
// that gRPC sends.
func fitsMetadata(id string) bool {
	for i := range len(id) {
		if id[i] < 0x20 || id[i] > 0x7e {
			return false
		}
	}
	return backpressure.CheckID(id) == nil
}
