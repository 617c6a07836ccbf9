package interceptors

import (
	"context"
	"math/bits"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ErrorDomain is the domain of the ErrorInfo that every rejection carries.
const ErrorDomain = "sluice"

// pushbackKey is what gRPC's retries obey (gRFC A6): a delay in milliseconds,
// taken exactly; negative is never.
const pushbackKey = "grpc-retry-pushback-ms"

// An answer is what a rejection looks like on the wire.
type answer struct {
	code   codes.Code
	reason Reason
	class  Class
	delay  time.Duration
	detail string
}

// A reply is an answer made: what many rejections share, and nobody changes.
type reply struct {
	status    *status.Status
	trailer   metadata.MD // for gRPC's own retries: the same delay
	noRetries metadata.MD // where the Client owns the retries
}

// replies remembers those of the last answers. Under overload the same few are
// needed again and again, and to make and marshal one takes longer than all the rest of
// a rejection.
var replies struct {
	mu   sync.RWMutex
	made map[answer]*reply
}

// maxReplies bounds replies; details with numbers in them would fill the memory.
const maxReplies = 4096

func (e *Error) reply() *reply {
	a := answer{e.Code, e.Reason, e.Class, e.RetryAfter, e.Detail}
	replies.mu.RLock()
	r := replies.made[a]
	replies.mu.RUnlock()
	if r != nil {
		return r
	}
	r = a.make()
	replies.mu.Lock()
	defer replies.mu.Unlock()
	if replies.made == nil || len(replies.made) >= maxReplies {
		replies.made = map[answer]*reply{}
	}
	replies.made[a] = r
	return r
}

// make is the one place where this package makes a status.
func (a answer) make() *reply {
	message := "rejected: " + string(a.reason)
	if a.detail != "" {
		message += ": " + a.detail
	}
	st := status.New(a.code, message)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason: string(a.reason), Domain: ErrorDomain, Metadata: map[string]string{"class": a.class.String()},
	}}
	ms := int64(-1)
	if a.delay >= 0 {
		ms = int64((a.delay + time.Millisecond - 1) / time.Millisecond)
	}
	if a.delay > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(a.delay)})
	}
	if detailed, err := st.WithDetails(details...); err == nil { // only an OK code has no room for them
		st = detailed
	}
	return &reply{st, metadata.Pairs(pushbackKey, strconv.FormatInt(ms, 10)), metadata.Pairs(pushbackKey, "-1")}
}

// trailer is what goes with the status: the same delay, for gRPC's own retries,
// unless the client that ctx came from retries by itself.
func (e *Error) trailer(ctx context.Context) metadata.MD {
	if clientRetries(ctx) {
		return e.reply().noRetries
	}
	return e.reply().trailer
}

// delaySteps is how many delays an octave has. Rounded ones are few, so that the
// replies that they are part of are, and so few that HTTP/2's header compression
// finds them in its table of 4 KiB: a header that it has to add, and to evict others
// for, costs the server more than the rest of the rejection.
const delaySteps = 8

// delay bounds and spreads what the gate knows of when there is room again.
func (p Pushback) delay(d time.Duration) time.Duration {
	d = min(max(d, p.Min), p.Max)
	if p.Jitter <= 0 {
		return d
	}
	spread := d + time.Duration(rand.Float64()*p.Jitter*float64(d))
	step := time.Duration(1) << max(bits.Len64(uint64(d))-1, 0) / delaySteps
	if step <= 0 {
		return spread
	}
	return max(spread/step*step, d)
}
