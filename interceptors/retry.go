package interceptors

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A retryBudget bounds retries by what succeeds, as gRPC's own throttling does
// (gRFC A6): a failure takes a token, a success gives a tenth of one back, and
// at half and below nothing is tried again. Without it every client of a full
// server multiplies its load when there is the least room for it.
type retryBudget struct {
	mu     sync.Mutex
	tokens float64
}

const budgetTokens, budgetRatio = 10, 0.1

func (b *retryBudget) init() { b.tokens = budgetTokens }

func (b *retryBudget) success() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+budgetRatio, budgetTokens)
}

func (b *retryBudget) failure() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = max(b.tokens-1, 0)
	return b.tokens > budgetTokens/2
}

// again waits as long as the server asked for, and reports whether the call is
// to be tried once more.
func (c *Client) again(ctx context.Context, err error, attempt int) bool {
	delay, ok := RetryAfter(err)
	if !ok || errors.Is(err, ErrRejected) {
		return false // no hint, or our own refusal: the caller decides
	}
	if !c.budget.failure() || attempt >= c.cfg.Retries {
		return false
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
		return false // it would come too late
	}
	if sleep(ctx, delay) != nil {
		return false
	}
	c.retried.Add(1)
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
