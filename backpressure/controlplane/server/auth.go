package server

import (
	"context"
	"crypto/subtle"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// BearerToken returns the options of a gRPC server that rejects every call
// without one of the tokens with UNAUTHENTICATED, grpc.health.v1 apart: load balancers
// and probes carry none. The token travels in the clear unless the connection
// is TLS.
func BearerToken(tokens ...string) []grpc.ServerOption {
	check := func(ctx context.Context, method string) error {
		if strings.HasPrefix(method, "/grpc.health.v1.Health/") || carries(ctx, tokens...) {
			return nil
		}
		return status.Error(codes.Unauthenticated, "controlplane: this control plane wants a bearer token")
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(
			ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
		) (any, error) {
			if err := check(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(
			srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
		) error {
			if err := check(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return handler(srv, stream)
		}),
	}
}

// carries says whether the call has one of the tokens. An empty token is none, so
// that a setting that was left out admits no caller. The comparison takes the same
// time whatever the caller guessed right.
func carries(ctx context.Context, tokens ...string) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, value := range md.Get("authorization") {
		given, ok := strings.CutPrefix(value, "Bearer ")
		for _, token := range tokens {
			if ok && token != "" && subtle.ConstantTimeCompare([]byte(given), []byte(token)) == 1 {
				return true
			}
		}
	}
	return false
}

// identities are the names in the caller's verified client certificate. Nil:
// the call came without one.
func identities(ctx context.Context) []string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil
	}
	leaf := info.State.VerifiedChains[0][0]
	names := slices.Clone(leaf.DNSNames)
	for _, uri := range leaf.URIs {
		names = append(names, uri.String())
	}
	if leaf.Subject.CommonName != "" {
		names = append(names, leaf.Subject.CommonName)
	}
	if names == nil {
		names = []string{""} // verified, but without a name
	}
	return names
}

// mayFor says whether the caller may speak for the component id: with a client
// certificate, only for a name in it. Without one, any: a token
// says that a caller belongs here, and not which component it is.
func (s *Server) mayFor(ctx context.Context, id string) error {
	names := identities(ctx)
	if names == nil || slices.Contains(names, id) || s.admin(names) {
		return nil
	}
	return reject(NotYours, "the client certificate is not for component %q", id[:min(len(id), 64)])
}

func (s *Server) admin(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return name != "" && slices.Contains(s.cfg.Admins, name) })
}

// mayChange says whether the caller may change settings. A server without any token
// and admins has no way to know an operator, so nobody may: a setting of 0.01 would stop
// the pipeline.
func (s *Server) mayChange(ctx context.Context) error {
	token := s.cfg.AdminToken
	if token == "" {
		token = s.cfg.Token
	}
	if carries(ctx, token) || s.admin(identities(ctx)) {
		return nil
	}
	return reject(NotYours, "settings are changed with a bearer token, or a certificate of an admin, only")
}
