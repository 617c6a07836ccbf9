package main

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
)

// bearer sends a token with each call. It does not send it in the clear to
// anywhere but this machine.
type bearer struct{ token, address string }

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	info, ok := credentials.RequestInfoFromContext(ctx)
	if !ok || credentials.CheckSecurityLevel(info.AuthInfo, credentials.PrivacyAndIntegrity) != nil {
		if !loopback(b.address) {
			return nil, fmt.Errorf("a token is not sent in the clear to %s: use -tls or -tls-ca", b.address)
		}
	}
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

// RequireTransportSecurity is false because GetRequestMetadata looks itself.
func (bearer) RequireTransportSecurity() bool { return false }

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
