package main

import (
	"context"
	"io"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/withobsrvr/sluice/connpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

type closer interface {
	grpc.ClientConnInterface
	Close() error
}

// single is one connection.
func single(address string) (closer, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// A static pool is what many programs have: n connections, taken by turns.
type static struct {
	conns []closer
	next  atomic.Uint32
}

func newStatic(n int) func(string) (closer, error) {
	return func(address string) (closer, error) {
		s := &static{}
		for range n {
			cc, err := single(address)
			if err != nil {
				return nil, err
			}
			s.conns = append(s.conns, cc)
		}
		return s, nil
	}
}

func (s *static) pick() closer { return s.conns[int(s.next.Add(1))%len(s.conns)] }

func (s *static) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return s.pick().Invoke(ctx, method, args, reply, opts...)
}

func (s *static) NewStream(
	ctx context.Context, d *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return s.pick().NewStream(ctx, d, method, opts...)
}

func (s *static) Close() error {
	for _, cc := range s.conns {
		_ = cc.Close()
	}
	return nil
}

// pooled is a connpool.Pool.
func pooled(change func(*connpool.Config)) func(string) (closer, error) {
	return func(address string) (closer, error) {
		cfg := connpool.Config{Credentials: insecure.NewCredentials()}
		if change != nil {
			change(&cfg)
		}
		return connpool.New("passthrough:///"+address, cfg)
	}
}

func withUnaryLane(c *connpool.Config) {
	c.Lanes = []connpool.Lane{{Name: connpool.LaneControl, Unary: true}}
}

// unary makes one call and says how long it took.
func unary(ctx context.Context, cc grpc.ClientConnInterface, timeout time.Duration) (time.Duration, bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	_, err := flight.NewFlightServiceClient(cc).GetFlightInfo(ctx, &flight.FlightDescriptor{})
	return time.Since(began), err == nil
}

// get starts a DoGet.
func get(ctx context.Context, cc grpc.ClientConnInterface, ticket string) (flight.FlightService_DoGetClient, error) {
	return flight.NewFlightServiceClient(cc).DoGet(ctx, &flight.Ticket{Ticket: []byte(ticket)})
}

// drain reads a stream to its end and counts its messages and bytes.
func drain(s flight.FlightService_DoGetClient, read func(bytes int)) error {
	for {
		m, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		read(len(m.GetDataBody()))
	}
}

// cpuTime is what this process, the client, has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
