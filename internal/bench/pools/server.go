package main

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"

	"google.golang.org/grpc"

	"github.com/apache/arrow-go/v18/arrow/flight"
)

// A server answers DoGet tickets: "hold" sends one message and waits, "N x B"
// sends N messages of B bytes, "flood B" sends messages of B bytes for ever.
type server struct{ flight.BaseFlightServer }

func (*server) DoGet(t *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	words := strings.Fields(string(t.GetTicket()))
	send := func(bytes int) error { return stream.Send(&flight.FlightData{DataBody: make([]byte, bytes)}) }
	number := func(i int) int { n, _ := strconv.Atoi(words[i]); return n }
	switch {
	case len(words) == 3:
		for range number(0) {
			if err := send(number(2)); err != nil {
				return err
			}
		}
		return nil
	case len(words) == 2:
		for {
			if err := send(number(1)); err != nil {
				return err
			}
		}
	}
	if err := send(8); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

func (*server) GetFlightInfo(context.Context, *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return &flight.FlightInfo{}, nil
}

// listen serves on loopback, once without a stream limit and once with 100, and
// returns both addresses.
func listen() (free, limited string, stop func(), err error) {
	var stops []func()
	serve := func(opts ...grpc.ServerOption) string {
		l, listenErr := net.Listen("tcp", "127.0.0.1:0")
		if listenErr != nil {
			err = listenErr
			return ""
		}
		s := grpc.NewServer(opts...)
		flight.RegisterFlightServiceServer(s, &server{})
		go func() { _ = s.Serve(l) }()
		stops = append(stops, s.Stop)
		return l.Addr().String()
	}
	free, limited = serve(), serve(grpc.MaxConcurrentStreams(100))
	return free, limited, func() {
		for _, f := range stops {
			f()
		}
	}, err
}

// serveUntil serves until the parent closes in, which its death does too.
func serveUntil(in io.Reader, out io.Writer) error {
	free, limited, stop, err := listen()
	if err != nil {
		return err
	}
	defer stop()
	if _, err := io.WriteString(out, free+" "+limited+"\n"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}
