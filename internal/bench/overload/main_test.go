package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A short run proves that the harness works; it asserts no times, because the
// machine may be busy. The bars are asserted in virtual time, in flowcontrol.
func TestAShortRunServesAndRefuses(t *testing.T) {
	r, err := run("adaptive", 2, 300*time.Millisecond, 700*time.Millisecond, 1)
	require.NoError(t, err)
	t.Log(r)
	require.Positive(t, r.good)
	require.Less(t, r.tried, r.offered, "nothing was refused at twice the capacity")
	_, err = run("wrong", 1, 0, 0, 1)
	require.Error(t, err)
}
