package flowcontrol

import (
	"fmt"
	"math"
)

// A Cost is the size of a unit of work in three weights at once. Zero means
// that the work has nothing of that weight; a negative weight counts as zero.
type Cost struct {
	Messages int64 // record batches, or unary requests
	Rows     int64 // rows in them
	Bytes    int64 // bytes of their bodies
}

// A Weight names one of the three dimensions of a [Cost].
type Weight uint8

// The weights, in the order in which they are checked.
const (
	Messages Weight = iota
	Rows
	Bytes
	weights = 3
)

var weightNames = [weights]string{"messages", "rows", "bytes"}

// String returns the name of the weight: messages, rows or bytes.
func (w Weight) String() string {
	if int(w) < len(weightNames) {
		return weightNames[w]
	}
	return fmt.Sprintf("Weight(%d)", uint8(w))
}

// Of returns the part of the cost that has weight w.
func (c Cost) Of(w Weight) int64 {
	switch w {
	case Messages:
		return c.Messages
	case Rows:
		return c.Rows
	case Bytes:
		return c.Bytes
	}
	return 0
}

// Add returns c + d, each weight saturating at the largest int64.
func (c Cost) Add(d Cost) Cost {
	return Cost{saturate(c.Messages, d.Messages), saturate(c.Rows, d.Rows), saturate(c.Bytes, d.Bytes)}
}

func (c Cost) minus(d Cost) Cost {
	return Cost{c.Messages - d.Messages, c.Rows - d.Rows, c.Bytes - d.Bytes}
}

// IsZero reports whether the cost has no weight at all.
func (c Cost) IsZero() bool { return c == Cost{} }

func (c Cost) String() string {
	return fmt.Sprintf("%d messages, %d rows, %d bytes", c.Messages, c.Rows, c.Bytes)
}

// clean returns c with its negative weights at zero.
func (c Cost) clean() Cost {
	return Cost{max(c.Messages, 0), max(c.Rows, 0), max(c.Bytes, 0)}
}

func saturate(a, b int64) int64 {
	sum := a + b
	switch {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	}
	return sum
}
