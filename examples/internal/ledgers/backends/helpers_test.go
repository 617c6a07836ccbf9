package backends_test

import "github.com/withobsrvr/sluice/examples/internal/ledgers"

// drain runs a stream to its end and returns its error.
func drain(stream func(func(ledgers.Ledger, error) bool)) error {
	var last error
	for _, err := range stream {
		last = err
	}
	return last
}
