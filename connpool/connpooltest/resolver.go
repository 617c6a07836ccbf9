package connpooltest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
)

// A Resolver is a name whose addresses a test changes, and the network behind
// it: each address is a [Server].
type Resolver struct {
	mu      sync.Mutex // guards what follows
	servers map[string]*Server
	names   []string
	clients map[resolver.ClientConn]struct{}
}

// NewResolver returns a name without addresses.
func NewResolver() *Resolver {
	return &Resolver{servers: map[string]*Server{}, clients: map[resolver.ClientConn]struct{}{}}
}

// Target is the resolver's name, for clients that have its DialOptions.
func (*Resolver) Target() string { return "sluicetest:///backends" }

// Set makes the name mean these servers, from now on and for every client that
// resolved it before.
func (r *Resolver) Set(servers ...*Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = nil
	for i, s := range servers {
		name := ""
		for n, known := range maps.All(r.servers) {
			if known == s {
				name = n
			}
		}
		if name == "" {
			name = fmt.Sprintf("backend-%d-%d", len(r.servers), i)
			r.servers[name] = s
		}
		r.names = append(r.names, name)
	}
	for cc := range r.clients {
		_ = cc.UpdateState(r.stateLocked())
	}
}

// DialOptions connect through this resolver. Transport security is the caller's.
func (r *Resolver) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithResolvers(r), grpc.WithContextDialer(r.dial)}
}

func (r *Resolver) stateLocked() (st resolver.State) {
	for _, n := range r.names {
		st.Addresses = append(st.Addresses, resolver.Address{Addr: n, ServerName: "test"})
	}
	return st
}

func (r *Resolver) dial(ctx context.Context, address string) (net.Conn, error) {
	r.mu.Lock()
	s := r.servers[address]
	r.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("connpooltest: no server %q", address)
	}
	return s.Dial(ctx, address)
}

// Scheme is that of Target.
func (*Resolver) Scheme() string { return "sluicetest" }

// Build serves one client connection.
func (r *Resolver) Build(
	_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions,
) (resolver.Resolver, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients[cc] = struct{}{}
	return &resolving{r, cc}, cc.UpdateState(r.stateLocked())
}

type resolving struct {
	r  *Resolver
	cc resolver.ClientConn
}

func (*resolving) ResolveNow(resolver.ResolveNowOptions) {}

func (r *resolving) Close() {
	r.r.mu.Lock()
	defer r.r.mu.Unlock()
	delete(r.r.clients, r.cc)
}
