package connpool_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/internal/testenv"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// nameServer answers every A query with the addresses that it was given, over
// UDP, and everything else with nothing.
type nameServer struct {
	net.PacketConn
	mu        sync.Mutex // guards addresses
	addresses []netip.Addr
}

func newNameServer(t *testing.T) *nameServer {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &nameServer{PacketConn: conn}
	var serving sync.WaitGroup
	serving.Go(n.serve)
	t.Cleanup(func() { _ = conn.Close(); serving.Wait() })
	return n
}

func (n *nameServer) set(addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses = nil
	for _, a := range addresses {
		n.addresses = append(n.addresses, netip.MustParseAddr(a))
	}
}

func (n *nameServer) serve() {
	query := make([]byte, 512)
	for {
		size, from, err := n.ReadFrom(query)
		if err != nil {
			return
		}
		if size > 12 {
			_, _ = n.WriteTo(n.answer(query[:size]), from)
		}
	}
}

// answer is RFC 1035, section 4: the header, the question as it came, and a
// record for each address, which names the question's name by its place.
func (n *nameServer) answer(query []byte) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	isA := query[end+2] == 1
	end += 5 // the root label, type and class
	n.mu.Lock()
	addresses := n.addresses
	n.mu.Unlock()
	if !isA {
		addresses = nil
	}
	reply := slices.Concat(query[:2], []byte{0x81, 0x80, 0, 1, 0, byte(len(addresses)), 0, 0, 0, 0}, query[12:end])
	for _, a := range addresses {
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		reply = append(reply, a.AsSlice()...)
	}
	return reply
}

// backend is a server on a real socket that counts its unary calls.
type backend struct {
	*grpc.Server
	calls atomic.Int64
}

func newBackend(t *testing.T, address string) (*backend, net.Listener) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		testenv.Skip(t, "no second loopback address here: "+err.Error())
	}
	b := &backend{}
	b.Server = grpc.NewServer(grpc.UnaryInterceptor(func(
		ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		b.calls.Add(1)
		return handler(ctx, req)
	}))
	healthpb.RegisterHealthServer(b.Server, health.NewServer())
	var serving sync.WaitGroup
	serving.Go(func() { _ = b.Serve(l) })
	t.Cleanup(func() { b.Stop(); serving.Wait() })
	return b, l
}

// gRPC's own DNS resolver over real sockets, outside of a bubble: a server that
// is added to a name gets its share when connections come of age, and one that
// goes is left as soon as it is gone, although gRPC asks for a name only every
// 30 s on one connection: the pool opens another.
func TestRealNamesThatChange(t *testing.T) {
	names := newNameServer(t)
	first, l := newBackend(t, "127.0.0.1:0")
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	second, _ := newBackend(t, net.JoinHostPort("127.0.0.2", port))
	names.set("127.0.0.1")

	pool, err := connpool.New("dns://"+names.LocalAddr().String()+"/backends.test:"+port, connpool.Config{
		Credentials: insecure.NewCredentials(), MinConnections: 4, MaxAge: 50 * time.Millisecond, HealthCheckInterval: -1,
	})
	require.NoError(t, err)
	defer pool.Close()
	ctx, cancel := context.WithTimeout(connpool.WithLane(t.Context(), ""), time.Minute)
	defer cancel()
	client := healthpb.NewHealthClient(pool)
	until := func(reached func() bool) {
		for !reached() {
			_, err := client.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
			require.NoError(t, err)
		}
	}
	more := func(b *backend) func() bool {
		seen := b.calls.Load()
		return func() bool { return b.calls.Load() > seen+10 }
	}
	until(more(first))
	require.Zero(t, second.calls.Load())

	names.set("127.0.0.1", "127.0.0.2")
	until(more(second))
	until(more(first))

	names.set("127.0.0.2")
	first.GracefulStop()
	began := first.calls.Load()
	until(more(second))
	require.Equal(t, began, first.calls.Load())
}
