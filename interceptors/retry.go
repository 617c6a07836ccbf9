package interceptors

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// retryKey is the metadata key by which a [Client] says that it retries
// rejections itself. A [Server] then tells gRPC not to, so that there is one
// owner: two machines that try three times each make nine attempts.
const retryKey = "sluice-retry"

// announce adds what the server has to know of the call to its metadata, and
// reports whether this Client retries its rejections: not where a Client outside
// of it does so.
func (c *Client) announce(ctx context.Context, m *method) (context.Context, bool) {
	ctx = sendPriority(ctx)
	if c.cfg.Retries <= 0 || m.clientStream {
		return ctx, false
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md.Get(retryKey)) > 0 {
		return ctx, false
	}
	return metadata.AppendToOutgoingContext(ctx, retryKey, "client"), true
}

// clientRetries reports whether the caller announced that it retries.
func clientRetries(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, retryKey)) > 0
}

// A retryBudget bounds retries by their success: a retry that is rejected again
// takes a token, one that succeeds gives it back, and any other success a tenth.
// There are as many tokens as calls under way, five at least. Without it every
// client of a full server multiplies its load when there is the least room for it.
type retryBudget struct {
	mu      sync.Mutex
	spent   float64
	waiting int64 // calls that wait for their next attempt
}

const budgetTokens, budgetRatio = 5, 0.1

func (b *retryBudget) success(retried bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if retried {
		b.spent--
	} else {
		b.spent -= budgetRatio
	}
	b.spent = max(b.spent, 0)
}

// failure reports whether there is a token for another attempt, where so many calls are open.
func (b *retryBudget) failure(retried bool, open int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if retried {
		b.spent++
	}
	return b.spent < float64(max(budgetTokens, open+b.waiting))
}

func (b *retryBudget) wait(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting += n
}

// again waits as long as the server asked for, and reports whether the call is
// to be tried once more.
func (c *Client) again(ctx context.Context, err error, attempt int) bool {
	delay, ok := RetryAfter(err)
	if !ok || errors.Is(err, ErrRejected) || retriedByGRPC(err) {
		return false // no hint, our own rejection, which is the caller's to handle, or not ours to retry
	}
	if !c.budget.failure(attempt > 0, c.openCalls()) || attempt >= c.cfg.Retries {
		return false
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
		return false // it would come too late
	}
	c.budget.wait(1)
	defer c.budget.wait(-1)
	if sleep(ctx, delay) != nil {
		return false
	}
	c.retried.Add(1)
	return true
}

// retriedByGRPC reports whether the error is one that gRPC may have retried
// already, with a service config: UNAVAILABLE from a server that does not know
// [retryKey].
func retriedByGRPC(err error) bool {
	st := status.Convert(err)
	if st.Code() != codes.Unavailable {
		return false
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == ErrorDomain {
			return false
		}
	}
	return true
}

// RetryAfter returns what a server's RetryInfo says about when to come back. It
// reports false when there is none, or when the error is one that waiting does not cure.
func RetryAfter(err error) (time.Duration, bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return max(e.RetryAfter, 0), e.RetryAfter > 0
	}
	st, ok := status.FromError(err)
	if !ok {
		return 0, false
	}
	switch st.Code() {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
	default:
		return 0, false
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok && info.GetRetryDelay().IsValid() {
			return max(info.GetRetryDelay().AsDuration(), 0), true
		}
	}
	return 0, false
}
