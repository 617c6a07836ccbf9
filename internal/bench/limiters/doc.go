// Package limiters compares flowcontrol with other Go limiters, by benchmarks
// of one decision with its release, and shows how another limiter is adapted
// to flowcontrol's verbs.
package limiters
