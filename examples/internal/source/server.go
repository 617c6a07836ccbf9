package source

import (
	"context"
	"errors"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/withobsrvr/sluice/examples/internal/flights"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// Server serves the ledgers of a source as a Flight.
type Server struct {
	flight.BaseFlightServer
	ledgers ledgers.Source
	cfg     Config
	schema  *arrow.Schema
	count   counters
}

var _ flight.FlightServer = (*Server)(nil)

// New returns a server of the ledgers of src.
func New(src ledgers.Source, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Server{ledgers: src, cfg: cfg, schema: schemaOf(src.Info())}, nil
}

// ListFlights lists the one Flight. Criteria, when given, are its name.
func (s *Server) ListFlights(criteria *flight.Criteria, stream flight.FlightService_ListFlightsServer) error {
	if e := criteria.GetExpression(); len(e) > 0 && string(e) != ledgers.FlightName {
		return nil
	}
	info, err := s.GetFlightInfo(stream.Context(), flights.Descriptor(ledgers.FlightName))
	if err != nil {
		return err
	}
	return stream.Send(info)
}

// GetFlightInfo describes all ledgers (a path) or a range of them (a command
// that holds a ticket), in several endpoints.
func (s *Server) GetFlightInfo(ctx context.Context, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	bounds, err := s.ledgers.Bounds(ctx)
	if err != nil {
		return nil, flights.Status(err)
	}
	r, err := flights.Resolve(desc, ledgers.FlightName, bounds)
	if err != nil {
		return nil, flights.Status(err)
	}
	return flights.Info(ledgers.FlightName, s.schema, desc, r, s.cfg.Layout), nil
}

// GetSchema returns the schema of the ledgers.
func (s *Server) GetSchema(ctx context.Context, desc *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	bounds, err := s.ledgers.Bounds(ctx)
	if err == nil {
		_, err = flights.Resolve(desc, ledgers.FlightName, bounds)
	}
	if err != nil {
		return nil, flights.Status(err)
	}
	return &flight.SchemaResult{Schema: flight.SerializeSchema(s.schema, memory.DefaultAllocator)}, nil
}

// DoGet streams the ledgers that the ticket names, in order.
func (s *Server) DoGet(ticket *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	s.count.streams.Add(1)
	defer s.count.streams.Add(-1)
	err := s.send(ticket, stream)
	switch {
	case err == nil:
	case errors.Is(stream.Context().Err(), context.Canceled): // by the client: no fault of ours
		s.count.cancelled.Add(1)
	default:
		s.count.errors.Add(1)
		s.cfg.Logger.Warn("stream failed", "ticket", string(ticket.GetTicket()), "error", err)
	}
	return flights.Status(err)
}

func (s *Server) send(ticket *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	ctx := stream.Context()
	bounds, err := s.ledgers.Bounds(ctx)
	if err != nil {
		return err
	}
	r, err := flights.ResolveTicket(ticket.GetTicket(), ledgers.FlightName, bounds)
	if err != nil {
		return err
	}

	out := &sender{
		Server: s,
		batch:  newBatch(s.cfg.Allocator, s.schema),
		writer: flight.NewRecordWriter(stream, ipc.WithSchema(s.schema), ipc.WithAllocator(s.cfg.Allocator)),
	}
	defer out.batch.record.Release()
	asked := time.Now()
	for l, err := range s.ledgers.Ledgers(ctx, r) {
		if err == nil {
			err = out.add(l, time.Since(asked))
		}
		if err != nil {
			// The ledgers before the bad one are good: the client gets them.
			return errors.Join(err, out.flush())
		}
		asked = time.Now()
	}
	if err := out.flush(); err != nil {
		return err
	}
	// Not deferred: closing writes the schema when nothing was written yet, and
	// an error must come without any message before it.
	return out.writer.Close()
}

// sender cuts one stream into batches.
type sender struct {
	*Server
	batch  *batch
	read   time.Time // when its first ledger was
	writer *flight.Writer
}

// add puts one ledger, for which the stream waited so long, into the stream.
func (o *sender) add(l ledgers.Ledger, waited time.Duration) error {
	h, err := readHeader(l)
	if err != nil {
		return err
	}
	size := len(l.Raw)
	if o.batch.rows() == o.cfg.BatchRows || o.batch.bytes+size > o.cfg.BatchBytes {
		if err := o.flush(); err != nil {
			return err
		}
	}
	parts := max((size+o.cfg.BatchBytes-1)/o.cfg.BatchBytes, 1)
	if o.batch.rows() == 0 {
		o.read = time.Now()
	}
	for part := range parts {
		end := min((part+1)*o.cfg.BatchBytes, size)
		o.batch.append(h, size, part, parts, l.Raw[part*o.cfg.BatchBytes:end])
		if parts > 1 {
			if err := o.flush(); err != nil {
				return err
			}
		}
	}
	o.count.ledgers.Add(1)
	o.count.transactions.Add(int64(h.transactions))
	o.count.lastLedger.Store(h.sequence)
	if !l.SetAside {
		o.count.lastClosed.Store(h.closedAt.Unix())
	}
	if o.cfg.FlushAfter > 0 && waited > o.cfg.FlushAfter {
		return o.flush()
	}
	return nil
}

// flush sends what the batch holds. It returns when the transport has taken it.
func (o *sender) flush() error {
	if o.batch.rows() == 0 {
		return nil
	}
	size := o.batch.bytes
	rec := o.batch.take()
	defer rec.Release()
	if err := o.writer.WriteWithAppMetadata(rec, BatchInfo{Read: o.read.UnixNano()}.Marshal()); err != nil {
		return err
	}
	o.count.batches.Add(1)
	o.count.bytes.Add(int64(size))
	return nil
}

// ListActions lists the one action, get_status.
func (s *Server) ListActions(_ *flight.Empty, stream flight.FlightService_ListActionsServer) error {
	return flights.ListStatusAction(stream)
}

// DoAction runs get_status, which returns the server's [Status].
func (s *Server) DoAction(action *flight.Action, stream flight.FlightService_DoActionServer) error {
	return flights.DoStatusAction(action, stream, s.Status)
}
