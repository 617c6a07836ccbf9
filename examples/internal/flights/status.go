package flights

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// Status turns err into a gRPC status, and nil into nil:
//
//	ErrBadRequest                           INVALID_ARGUMENT
//	ErrNoFlight, ledgers.ErrNotFound        NOT_FOUND
//	ledgers.ErrCorrupt, events.ErrExtract   DATA_LOSS: asking again will not help
//	ledgers.ErrBackend                      UNAVAILABLE
//	flowcontrol.ErrRejected                  UNAVAILABLE
//	the context's end                       CANCELLED or DEADLINE_EXCEEDED
//	a status (from a server behind)         the same code
//	anything else                           INTERNAL
//
// The message is err's own, which names the ledger.
func Status(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(codeOf(err), message(err))
}

func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, ErrBadRequest):
		return codes.InvalidArgument
	case errors.Is(err, ErrNoFlight), errors.Is(err, ledgers.ErrNotFound):
		return codes.NotFound
	case errors.Is(err, ledgers.ErrCorrupt), errors.Is(err, events.ErrExtract):
		return codes.DataLoss
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	}
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	if errors.Is(err, ledgers.ErrBackend) || errors.Is(err, flowcontrol.ErrRejected) {
		return codes.Unavailable
	}
	return codes.Internal
}

// message is err's text without the "rpc error: code = …" of a bare status.
func message(err error) string {
	if s, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return s.GRPCStatus().Message()
	}
	return err.Error()
}
