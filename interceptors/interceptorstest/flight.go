package interceptorstest

import (
	"context"
	"net"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/interceptors"
)

// Config says what [Start] runs. The zero value is a [Service] with nothing around it.
type Config struct {
	// Server and Client are the interceptors, each in its recommended place. Nil is none.
	Server *interceptors.Server
	Client *interceptors.Client
	// Service answers. Nil is a [Service] that sends nothing.
	Service flight.FlightServer
	// ServerMiddleware stands inside Server's, ClientMiddleware outside Client's.
	ServerMiddleware []flight.ServerMiddleware
	ClientMiddleware []flight.ClientMiddleware
	// ServerOptions and DialOptions are added.
	ServerOptions []grpc.ServerOption
	DialOptions   []grpc.DialOption
	// AsOptions gives the interceptors as ServerOptions and DialOptions instead of as middleware.
	AsOptions bool
	// Register adds services to the server.
	Register func(grpc.ServiceRegistrar)
}

// A Flight is a running server and a client of it.
type Flight struct {
	Client flight.Client
	Server flight.Server
	// Listener is where further clients connect: see [Flight.Dial].
	Listener *bufconn.Listener
}

// Start runs a Flight service on an in-memory connection until the test ends.
func Start(t testing.TB, cfg Config) *Flight {
	t.Helper()
	if cfg.Service == nil {
		cfg.Service = &Service{}
	}
	var middleware []flight.ServerMiddleware
	options := cfg.ServerOptions
	switch {
	case cfg.Server == nil:
	case cfg.AsOptions:
		options = append(cfg.Server.ServerOptions(), options...)
	default:
		middleware = append(middleware, flight.ServerMiddleware(cfg.Server.Middleware()))
	}
	server := flight.NewServerWithMiddleware(append(middleware, cfg.ServerMiddleware...), options...)
	f := &Flight{Server: server, Listener: bufconn.Listen(1 << 16)}
	server.InitListener(f.Listener)
	server.RegisterFlightService(cfg.Service)
	if cfg.Register != nil {
		cfg.Register(server)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	f.Client = f.Dial(t, cfg)
	t.Cleanup(func() {
		_ = f.Client.Close()
		server.Shutdown()
		if err := <-served; err != nil {
			t.Errorf("interceptorstest: Serve: %v", err)
		}
	})
	return f
}

// Dial returns one more client, which the caller closes before the test ends.
func (f *Flight) Dial(t testing.TB, cfg Config) flight.Client {
	t.Helper()
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return f.Listener.DialContext(ctx) }),
	}, cfg.DialOptions...)
	middleware := cfg.ClientMiddleware
	switch {
	case cfg.Client == nil:
	case cfg.AsOptions:
		options = append(options, cfg.Client.DialOptions()...)
	default:
		middleware = append(middleware[:len(middleware):len(middleware)], flight.ClientMiddleware(cfg.Client.Middleware()))
	}
	client, err := flight.NewClientWithMiddleware("passthrough:///bufconn", nil, middleware, options...)
	if err != nil {
		t.Fatalf("interceptorstest: dial: %v", err)
	}
	return client
}
