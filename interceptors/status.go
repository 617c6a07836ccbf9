package interceptors

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ErrorDomain is the domain of the ErrorInfo that every refusal carries.
const ErrorDomain = "sluice"

// pushbackKey is what gRPC's retries obey (gRFC A6): a delay in milliseconds,
// taken exactly; negative is never.
const pushbackKey = "grpc-retry-pushback-ms"

// makeStatus is the one place where this package makes a status.
func makeStatus(e *Error) *status.Status {
	st := status.New(e.Code, e.Error())
	info := &errdetails.ErrorInfo{
		Reason: string(e.Reason), Domain: ErrorDomain,
		Metadata: map[string]string{"class": e.Class.String()},
	}
	var err error
	detailed := st
	if e.RetryAfter > 0 {
		detailed, err = st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)}, info)
	} else {
		detailed, err = st.WithDetails(info)
	}
	if err != nil { // only an OK code has no room for details
		return st
	}
	return detailed
}

// trailer is what goes with the status: the same delay, for gRPC's own retries,
// unless the client that ctx came from retries by itself.
func (e *Error) trailer(ctx context.Context) metadata.MD {
	ms := int64(-1)
	if e.RetryAfter >= 0 && !clientRetries(ctx) {
		ms = int64((e.RetryAfter + time.Millisecond - 1) / time.Millisecond)
	}
	return metadata.Pairs(pushbackKey, strconv.FormatInt(ms, 10))
}

// delay bounds and spreads what the gate knows of when there is room again.
func (p Pushback) delay(d time.Duration) time.Duration {
	d = min(max(d, p.Min), p.Max)
	if p.Jitter > 0 {
		d += time.Duration(rand.Float64() * p.Jitter * float64(d))
	}
	return d
}
