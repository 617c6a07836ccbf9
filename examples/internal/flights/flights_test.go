package flights_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/flights"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/flowcontrol"
)

var bounds = ledgers.Range{First: 100, Last: 199}

func TestInfoCoversTheRangeOnceInOrder(t *testing.T) {
	for _, tc := range []struct {
		r         ledgers.Range
		layout    flights.Layout
		endpoints int
	}{
		{bounds, flights.Layout{}, 2},
		{bounds, flights.Layout{LedgersPerEndpoint: 10}, 10},
		{bounds, flights.Layout{LedgersPerEndpoint: 10, MaxEndpoints: 3}, 3},
		{ledgers.Range{First: 7, Last: 7}, flights.Layout{}, 1},
		{ledgers.Range{First: 0, Last: 4294967295}, flights.Layout{}, 64},
		{ledgers.Range{First: 4294967295, Last: 4294967295}, flights.Layout{}, 1},
	} {
		info := flights.Info("ttp_events", events.Schema, flights.Descriptor("ttp_events"), tc.r, tc.layout)
		require.Len(t, info.Endpoint, tc.endpoints)
		next := uint64(tc.r.First)
		for _, e := range info.Endpoint {
			ticket, err := ledgers.ParseTicket(e.Ticket.Ticket)
			require.NoError(t, err)
			require.Equal(t, "ttp_events", ticket.Flight)
			require.Equal(t, next, uint64(ticket.Range.First))
			next = uint64(ticket.Range.Last) + 1
		}
		require.Equal(t, uint64(tc.r.Last)+1, next)
		got, err := flights.ParseBounds(info)
		require.NoError(t, err)
		require.Equal(t, tc.r, got)
		schema, err := flight.DeserializeSchema(info.Schema, memory.DefaultAllocator)
		require.NoError(t, err)
		require.NoError(t, events.CheckSchema(schema))
	}
	for _, bad := range []string{"", "{}x", `{"start":3,"end":2}`} {
		_, err := flights.ParseBounds(&flight.FlightInfo{AppMetadata: []byte(bad)})
		require.Error(t, err, bad)
	}
}

func TestResolve(t *testing.T) {
	r, err := flights.Resolve(flights.Descriptor("ledgers"), "ledgers", bounds)
	require.NoError(t, err)
	require.Equal(t, bounds, r)

	want := ledgers.Range{First: 150, Last: 160}
	r, err = flights.Resolve(flights.RangeDescriptor(ledgers.Ticket{Flight: "ledgers", Range: want}), "ledgers", bounds)
	require.NoError(t, err)
	require.Equal(t, want, r)

	for name, tc := range map[string]struct {
		desc *flight.FlightDescriptor
		want codes.Code
	}{
		"nothing":      {nil, codes.InvalidArgument},
		"another path": {flights.Descriptor("other"), codes.NotFound},
		"a longer path": {
			&flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"ledgers", "x"}},
			codes.NotFound,
		},
		"an empty path":  {&flight.FlightDescriptor{Type: flight.DescriptorPATH}, codes.NotFound},
		"no ticket":      {&flight.FlightDescriptor{Type: flight.DescriptorCMD}, codes.InvalidArgument},
		"another flight": {flights.RangeDescriptor(ledgers.Ticket{Flight: "x", Range: want}), codes.InvalidArgument},
		"absent ledger": {
			flights.RangeDescriptor(ledgers.Ticket{Flight: "ledgers", Range: ledgers.Range{
				First: 150,
				Last:  200,
			}}), codes.NotFound,
		},
	} {
		_, err := flights.Resolve(tc.desc, "ledgers", bounds)
		require.Equal(t, tc.want, status.Code(flights.Status(err)), name)
	}
}

func TestStatus(t *testing.T) {
	require.NoError(t, flights.Status(nil))
	for _, tc := range []struct {
		err  error
		want codes.Code
		text string
	}{
		{&ledgers.Error{Sequence: 7, Kind: ledgers.ErrNotFound, Err: errors.New("x")}, codes.NotFound, "ledger 7"},
		{&ledgers.Error{Sequence: 7, Kind: ledgers.ErrCorrupt, Err: errors.New("x")}, codes.DataLoss, "ledger 7"},
		{&ledgers.Error{Sequence: 7, Kind: ledgers.ErrBackend, Err: errors.New("disk")}, codes.Unavailable, "disk"},
		{&ledgers.Error{Sequence: 7, Kind: ledgers.ErrBackend, Err: context.Canceled}, codes.Canceled, "ledger 7"},
		{&events.Error{Ledger: 7, Err: errors.New("x")}, codes.DataLoss, "ledger 7"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "deadline"},
		{status.Error(codes.ResourceExhausted, "later"), codes.ResourceExhausted, "later"},
		{fmt.Errorf("reading: %w", status.Error(codes.NotFound, "ledger 9")), codes.NotFound, "ledger 9"},
		{fmt.Errorf("ledger 7: %w", flowcontrol.ErrRejected), codes.Unavailable, "ledger 7"},
		{errors.New("x"), codes.Internal, "x"},
	} {
		got := status.Convert(flights.Status(tc.err))
		require.Equal(t, tc.want, got.Code(), tc.err)
		require.Contains(t, got.Message(), tc.text)
	}
	require.Equal(t, "later", status.Convert(flights.Status(status.Error(codes.Aborted, "later"))).Message())
}
