package interceptorstest

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/metadata"
)

// A Service is a Flight service that does what its fields say. Its zero value
// answers with nothing, takes everything, and echoes.
type Service struct {
	flight.BaseFlightServer
	// Send is what a DoGet sends, once for each of Repeat (0 is once), Every so often.
	Send   []*flight.FlightData
	Repeat int
	Every  time.Duration
	// Handle is how long each received message is worked on.
	Handle time.Duration
	// Ack makes a DoPut acknowledge each message with so many bytes.
	Ack int
	// Fail is what a call ends with after its messages.
	Fail error
	// Panic makes each handler panic at its first message.
	Panic bool
	// Header is set on every call before its first message.
	Header metadata.MD
	// OnCall sees the context of each stream's handler before anything else.
	OnCall func(context.Context)
	// OnEnd sees the context's cause when a stream's handler returns.
	OnEnd func(error)
}

func (s *Service) begin(stream interface {
	Context() context.Context
	SetHeader(metadata.MD) error
},
) (func(), error) {
	ctx := stream.Context()
	if s.OnCall != nil {
		s.OnCall(ctx)
	}
	if s.Header != nil {
		if err := stream.SetHeader(s.Header); err != nil {
			return func() {}, err
		}
	}
	return func() {
		if s.OnEnd != nil {
			s.OnEnd(context.Cause(ctx))
		}
	}, nil
}

// pause waits in the time of the test.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// DoGet sends what Send says.
func (s *Service) DoGet(_ *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	end, err := s.begin(stream)
	defer end()
	if err != nil {
		return err
	}
	for range max(s.Repeat, 1) {
		for _, m := range s.Send {
			if s.Panic {
				panic("interceptorstest: told to panic")
			}
			if err := pause(stream.Context(), s.Every); err != nil {
				return err
			}
			if err := stream.Send(m); err != nil {
				return err
			}
		}
	}
	return s.Fail
}

// DoPut takes every message, and acknowledges as Ack says.
func (s *Service) DoPut(stream flight.FlightService_DoPutServer) error {
	end, err := s.begin(stream)
	defer end()
	if err != nil {
		return err
	}
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return s.Fail
		}
		if err != nil {
			return err
		}
		if s.Panic {
			panic("interceptorstest: told to panic")
		}
		if err := pause(stream.Context(), s.Handle); err != nil {
			return err
		}
		if s.Ack > 0 {
			if err := stream.Send(&flight.PutResult{AppMetadata: make([]byte, s.Ack)}); err != nil {
				return err
			}
		}
	}
}

// DoExchange sends back what it receives.
func (s *Service) DoExchange(stream flight.FlightService_DoExchangeServer) error {
	end, err := s.begin(stream)
	defer end()
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return s.Fail
		}
		if err != nil {
			return err
		}
		if s.Panic {
			panic("interceptorstest: told to panic")
		}
		if err := pause(stream.Context(), s.Handle); err != nil {
			return err
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// GetFlightInfo answers with nothing, after Handle.
func (s *Service) GetFlightInfo(ctx context.Context, _ *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	if s.OnCall != nil {
		s.OnCall(ctx)
	}
	if s.Panic {
		panic("interceptorstest: told to panic")
	}
	if err := pause(ctx, s.Handle); err != nil {
		return nil, err
	}
	return &flight.FlightInfo{}, s.Fail
}
