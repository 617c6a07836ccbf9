package flights

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

var (
	// ErrBadRequest means that a ticket, descriptor or action makes no sense.
	ErrBadRequest = errors.New("bad request")
	// ErrNoFlight means that there is no Flight of that name.
	ErrNoFlight = errors.New("no such flight")
)

// Descriptor names a whole Flight.
func Descriptor(name string) *flight.FlightDescriptor {
	return &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{name}}
}

// RangeDescriptor names a range of a Flight.
func RangeDescriptor(t ledgers.Ticket) *flight.FlightDescriptor {
	return &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: t.Marshal()}
}

// Resolve returns the ledgers that a descriptor asks for: all of bounds when it
// is the path of the Flight name, a range within bounds when it is a command
// that holds a ticket.
func Resolve(desc *flight.FlightDescriptor, name string, bounds ledgers.Range) (ledgers.Range, error) {
	switch desc.GetType() {
	case flight.DescriptorPATH:
		if len(desc.GetPath()) != 1 || desc.GetPath()[0] != name {
			return ledgers.Range{}, fmt.Errorf("%w: path %.100q, want [%q]", ErrNoFlight, desc.GetPath(), name)
		}
		return bounds, nil
	case flight.DescriptorCMD:
		return ResolveTicket(desc.GetCmd(), name, bounds)
	default:
		return ledgers.Range{}, fmt.Errorf("%w: descriptor of type %v, want a path or a command", ErrBadRequest,
			desc.GetType())
	}
}

// ResolveTicket returns the ledgers that a ticket of the Flight name asks for.
// One that is not in bounds is not found.
func ResolveTicket(ticket []byte, name string, bounds ledgers.Range) (ledgers.Range, error) {
	t, err := ledgers.ParseTicket(ticket)
	if err != nil {
		return ledgers.Range{}, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if t.Flight != name {
		return ledgers.Range{}, fmt.Errorf("%w: ticket of flight %.100q, this is %q", ErrBadRequest, t.Flight, name)
	}
	return t.Range, ledgers.CheckBounds(t.Range, bounds)
}

// Bounds is the application metadata of a FlightInfo: the ledgers it stands for.
type Bounds struct {
	Start uint32 `json:"start"`
	End   uint32 `json:"end"` // inclusive
}

// ParseBounds reads the application metadata of a FlightInfo.
func ParseBounds(info *flight.FlightInfo) (ledgers.Range, error) {
	var b Bounds
	if err := json.Unmarshal(info.GetAppMetadata(), &b); err != nil {
		return ledgers.Range{}, fmt.Errorf("flights: application metadata %.100q: %w", info.GetAppMetadata(), err)
	}
	r := ledgers.Range{First: b.Start, Last: b.End}
	if r.Len() == 0 {
		return ledgers.Range{}, fmt.Errorf("flights: application metadata names the empty range %v", r)
	}
	return r, nil
}

// Layout says how a range is split into endpoints.
type Layout struct {
	LedgersPerEndpoint int // default 64
	MaxEndpoints       int // default 64: a FlightInfo stays far below gRPC's 4 MiB
}

// Split cuts r into consecutive ranges, as many as the layout says, of equal
// length but for the last.
func (l Layout) Split(r ledgers.Range) []ledgers.Range {
	size := uint64(64)
	if l.LedgersPerEndpoint > 0 {
		size = uint64(l.LedgersPerEndpoint)
	}
	most := uint64(64)
	if l.MaxEndpoints > 0 {
		most = uint64(l.MaxEndpoints)
	}
	size = max(size, (r.Len()+most-1)/most)
	var parts []ledgers.Range
	if r.Len() == 0 {
		return parts
	}
	for first := uint64(r.First); first <= uint64(r.Last); first += size {
		parts = append(parts, ledgers.Range{First: uint32(first), Last: uint32(min(first+size-1, uint64(r.Last)))})
	}
	return parts
}

// Info describes the range r of the Flight name. Its endpoints have no
// locations, which means the server that was asked. They can be read in
// parallel; read in their order they are the range in order.
func Info(name string, schema *arrow.Schema, desc *flight.FlightDescriptor, r ledgers.Range,
	layout Layout,
) *flight.FlightInfo {
	meta, err := json.Marshal(Bounds{r.First, r.Last})
	if err != nil {
		panic("flights: " + err.Error()) // two numbers: cannot fail
	}
	info := &flight.FlightInfo{
		Schema:           flight.SerializeSchema(schema, memory.DefaultAllocator),
		FlightDescriptor: desc,
		TotalRecords:     -1, // known only once it was read
		TotalBytes:       -1,
		Ordered:          true,
		AppMetadata:      meta,
	}
	for _, part := range layout.Split(r) {
		info.Endpoint = append(info.Endpoint, &flight.FlightEndpoint{
			Ticket: &flight.Ticket{Ticket: ledgers.Ticket{Flight: name, Range: part}.Marshal()},
		})
	}
	return info
}
