package processor

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/flights"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// Server serves the events of a source's ledgers as a Flight.
type Server struct {
	flight.BaseFlightServer
	cfg    Config
	source flight.Client
	stage  *flowcontrol.Throttler
	cpu    chan struct{} // a slot for each batch that is being extracted
	count  counters
}

var _ flight.FlightServer = (*Server)(nil)

// New returns a server of the events of the ledgers behind cfg.Source. It opens
// nothing.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	stage := cfg.Stage
	if stage == nil {
		var err error
		stage, err = flowcontrol.New(flowcontrol.Config{
			Name:  "ttp-arrow-processor",
			Limit: flowcontrol.Cost{Messages: DefaultStageBatches, Bytes: DefaultStageBytes},
			Queue: flowcontrol.QueueConfig{InOrder: true},
		})
		if err != nil {
			return nil, fmt.Errorf("processor: %w", err)
		}
	}
	return &Server{
		cfg:    cfg,
		source: flight.NewClientFromConn(cfg.Source, nil),
		stage:  stage,
		cpu:    make(chan struct{}, cfg.Workers),
	}, nil
}

// Stage returns the throttler that counts what is in flight.
func (s *Server) Stage() *flowcontrol.Throttler { return s.stage }

// Bounds asks the source which ledgers it offers.
func (s *Server) Bounds(ctx context.Context) (ledgers.Range, error) {
	bounds, _, err := s.describe(ctx)
	return bounds, err
}

// describe asks the source which ledgers it offers, and of what origin.
func (s *Server) describe(ctx context.Context) (bounds ledgers.Range, from events.Origin, err error) {
	info, err := s.source.GetFlightInfo(ctx, flights.Descriptor(ledgers.FlightName))
	if err != nil {
		return bounds, from, fmt.Errorf("asking the source for its ledgers: %w", err)
	}
	schema, err := flight.DeserializeSchema(info.GetSchema(), s.cfg.Allocator)
	if err != nil {
		return bounds, from, fmt.Errorf("the source's schema: %w", err)
	}
	bounds, err = flights.ParseBounds(info)
	return bounds, events.OriginOf(schema), err
}

// ListFlights lists the one Flight. Criteria, when given, are its name.
func (s *Server) ListFlights(criteria *flight.Criteria, stream flight.FlightService_ListFlightsServer) error {
	if e := criteria.GetExpression(); len(e) > 0 && string(e) != events.FlightName {
		return nil
	}
	info, err := s.GetFlightInfo(stream.Context(), flights.Descriptor(events.FlightName))
	if err != nil {
		return err
	}
	return stream.Send(info)
}

// GetFlightInfo describes the events of all ledgers of the source (a path) or
// of a range of them (a command that holds a ticket), in several endpoints.
func (s *Server) GetFlightInfo(ctx context.Context, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	bounds, from, err := s.describe(ctx)
	if err != nil {
		return nil, flights.Status(err)
	}
	r, err := flights.Resolve(desc, events.FlightName, bounds)
	if err != nil {
		return nil, flights.Status(err)
	}
	return flights.Info(events.FlightName, from.Schema(), desc, r, s.cfg.Layout), nil
}

// GetSchema returns the schema of the events. It does not ask the source.
func (s *Server) GetSchema(_ context.Context, desc *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	all := ledgers.Range{First: 0, Last: ^uint32(0)}
	if _, err := flights.Resolve(desc, events.FlightName, all); err != nil {
		return nil, flights.Status(err)
	}
	return &flight.SchemaResult{Schema: flight.SerializeSchema(events.Schema, memory.DefaultAllocator)}, nil
}

// DoGet streams the events of the ledgers that the ticket names, in order.
func (s *Server) DoGet(ticket *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	s.count.streams.Add(1)
	defer s.count.streams.Add(-1)
	all := ledgers.Range{First: 0, Last: ^uint32(0)} // the source knows what is there
	r, err := flights.ResolveTicket(ticket.GetTicket(), events.FlightName, all)
	if err == nil {
		err = s.run(r, stream)
	}
	switch {
	case err == nil:
	case errors.Is(stream.Context().Err(), context.Canceled): // by the consumer: no fault of ours
		s.count.cancelled.Add(1)
	default:
		s.count.errors.Add(1)
		s.cfg.Logger.Warn("stream failed", "ticket", string(ticket.GetTicket()), "error", err)
	}
	return flights.Status(err)
}

// ListActions lists the one action, get_status.
func (s *Server) ListActions(_ *flight.Empty, stream flight.FlightService_ListActionsServer) error {
	return flights.ListStatusAction(stream)
}

// DoAction runs get_status, which returns the server's [Status].
func (s *Server) DoAction(action *flight.Action, stream flight.FlightService_DoActionServer) error {
	return flights.DoStatusAction(action, stream, s.Status)
}
