package sink

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TotalsFlight is the name of the flight with the running totals; it is its
// ticket too.
const TotalsFlight = "totals"

// The actions of the sink's Flight server.
const (
	ActionStatus   = "get_status" // no body; the result is a Status as JSON
	ActionSetDelay = "set_delay"  // the body is a delay such as 50ms; the result is the delay of before
)

// Server serves a sink's running totals and its actions. It is safe for
// concurrent use.
type Server struct {
	flight.BaseFlightServer
	sink      *Sink
	mayChange func(context.Context) error
}

// NewServer returns the Flight server of s. mayChange says why the caller of an
// action that changes something has no right to it; nil: everybody has.
func NewServer(s *Sink, mayChange func(context.Context) error) *Server {
	return &Server{sink: s, mayChange: mayChange}
}

// ListFlights lists the totals.
func (s *Server) ListFlights(_ *flight.Criteria, stream flight.FlightService_ListFlightsServer) error {
	return stream.Send(s.info())
}

// GetFlightInfo describes the totals.
func (s *Server) GetFlightInfo(_ context.Context, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	return s.info(), nil
}

// GetSchema returns the schema of the totals.
func (s *Server) GetSchema(_ context.Context, d *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	return &flight.SchemaResult{Schema: flight.SerializeSchema(TotalsSchema, nil)}, nil
}

func checkDescriptor(d *flight.FlightDescriptor) error {
	if !slices.Equal(d.GetPath(), []string{TotalsFlight}) {
		return status.Errorf(codes.NotFound, "flight %q: want the path [%s]", d.GetPath(), TotalsFlight)
	}
	return nil
}

func (s *Server) info() *flight.FlightInfo {
	return &flight.FlightInfo{
		Schema:           flight.SerializeSchema(TotalsSchema, nil),
		FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{TotalsFlight}},
		Endpoint:         []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: []byte(TotalsFlight)}}},
		TotalRecords:     int64(len(s.sink.Totals())),
		TotalBytes:       -1,
	}
}

// DoGet sends the totals of everything that is durable, as one batch.
func (s *Server) DoGet(ticket *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	if string(ticket.GetTicket()) != TotalsFlight {
		return status.Errorf(codes.InvalidArgument, "ticket %.40q: want %q", ticket.GetTicket(), TotalsFlight)
	}
	rec := totalsBatch(s.sink.Totals())
	defer rec.Release()
	w := flight.NewRecordWriter(stream, ipc.WithSchema(TotalsSchema))
	defer w.Close()
	return w.Write(rec)
}

// ListActions lists the actions.
func (s *Server) ListActions(_ *flight.Empty, stream flight.FlightService_ListActionsServer) error {
	for _, a := range []*flight.ActionType{
		{Type: ActionStatus, Description: "how far the sink is, as JSON"},
		{Type: ActionSetDelay, Description: "wait this long before each batch is written, for example 50ms or 0"},
	} {
		if err := stream.Send(a); err != nil {
			return err
		}
	}
	return nil
}

// DoAction answers the actions.
func (s *Server) DoAction(a *flight.Action, stream flight.FlightService_DoActionServer) error {
	switch a.GetType() {
	case ActionStatus:
		body, err := json.Marshal(s.sink.Status())
		if err != nil {
			return status.Errorf(codes.Internal, "%v", err)
		}
		return stream.Send(&flight.Result{Body: body})
	case ActionSetDelay:
		if s.mayChange != nil {
			if err := s.mayChange(stream.Context()); err != nil {
				return err
			}
		}
		delay, err := ParseDelay(string(a.GetBody()))
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		before := s.sink.Delay().Get()
		s.sink.Delay().Set(delay)
		return stream.Send(&flight.Result{Body: []byte(before.String())})
	}
	return status.Errorf(codes.InvalidArgument, "action %q: want %s or %s", a.GetType(), ActionStatus, ActionSetDelay)
}
