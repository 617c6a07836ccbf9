// Package wire holds what the two flowctl services have in common: how a unary
// method becomes part of a [grpc.ServiceDesc] whose names are written out.
//
// The services have to carry their original names, while the messages have to
// be registered under a package of ours, so their descriptors cannot be
// generated together.
package wire

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// A Message is a pointer to a generated message struct T.
type Message[T any] interface {
	*T
	proto.Message
}

// Undecoded is a server that counts the requests that gRPC rejects before it
// sees them: too large, or no message.
type Undecoded interface{ Undecoded(err error) }

// Unary describes one unary method of service for a server that implements S.
func Unary[S, In, Out any, Req Message[In], Resp Message[Out]](
	service, method string, call func(S, context.Context, Req) (Resp, error),
) grpc.MethodDesc {
	full := FullMethod(service, method)
	return grpc.MethodDesc{
		MethodName: method,
		Handler: func(
			server any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor,
		) (any, error) {
			request := Req(new(In))
			if err := decode(request); err != nil {
				if s, ok := server.(Undecoded); ok {
					s.Undecoded(err)
				}
				return nil, err
			}
			handle := func(ctx context.Context, request any) (any, error) {
				return call(server.(S), ctx, request.(Req))
			}
			if interceptor == nil {
				return handle(ctx, request)
			}
			return interceptor(ctx, request, &grpc.UnaryServerInfo{Server: server, FullMethod: full}, handle)
		},
	}
}

// Invoke calls one unary method.
func Invoke[Out any, Resp Message[Out]](
	ctx context.Context, conn grpc.ClientConnInterface, service, method string, request proto.Message,
	opts ...grpc.CallOption,
) (Resp, error) {
	response := Resp(new(Out))
	if err := conn.Invoke(ctx, FullMethod(service, method), request, response, opts...); err != nil {
		return nil, err
	}
	return response, nil
}

// FullMethod is the method's path on the wire.
func FullMethod(service, method string) string { return "/" + service + "/" + method }
