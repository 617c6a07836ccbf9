package main

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	asChild()
	os.Exit(m.Run())
}

// brief are lengths at which a control has settled, and the unprotected server
// has collapsed; slow enough that the machine is never what is overloaded, unless
// others keep it busy: what depends on that is logged, not asserted.
var brief = lengths{
	warm:     1600 * time.Millisecond,
	measured: 1200 * time.Millisecond,
	minute:   time.Second,
	burst:    time.Second,
	slow:     4,
}

func find(t *testing.T, name string) scenario {
	for _, s := range scenarios(brief) {
		if s.name == name {
			return s
		}
	}
	require.FailNow(t, "no such row", name)
	return scenario{}
}

// requireAccounts: what the clients, the server and the gate counted agrees,
// and nothing is left over.
func requireAccounts(t *testing.T, r *result) {
	t.Helper()
	served := int64(0)
	for _, a := range r.answers {
		if a.end == good {
			served++
		}
	}
	require.LessOrEqual(t, r.final.Received, int64(len(r.answers)), "more calls than requests")
	for _, s := range r.all {
		require.Equal(t, s.Received, s.Ended, "calls without an answer")
		require.LessOrEqual(t, s.Started, s.Received)
		if g := s.Gate; g != nil {
			require.Zero(t, g.Permits, "permits are held by nobody")
			require.Zero(t, g.InFlight)
			require.Zero(t, g.Waiting)
			require.Equal(t, uint64(s.Started), g.Admitted, "admitted, and the handler did not run")
			require.Equal(t, g.Admitted, g.Completed)
			require.Equal(t, g.Completed, g.Succeeded+g.Ignored+g.Dropped)
		}
	}
	require.LessOrEqual(t, served, r.final.Worked, "answers without work")
}

// At four times what the server can do, ours rejects what the unprotected one
// takes in. What that does for goodput and latency depends on the machine, too,
// and is asserted in virtual time, in flowcontrol.
func TestTheGateShedsWhatTheServerCannotDo(t *testing.T) {
	row := find(t, "4x")
	bare, err := run(row, control{Kind: unprotected}, 1)
	require.NoError(t, err)
	requireAccounts(t, bare)
	ours, err := run(row, control{Kind: sluiced}, 1)
	require.NoError(t, err)
	requireAccounts(t, ours)
	count := func(r *result) (n int) {
		for _, a := range r.answers {
			if a.end == rejected {
				n++
			}
		}
		return n
	}
	require.Zero(t, count(bare))
	require.Positive(t, count(ours))
	require.Positive(t, ours.final.Worked)
	without, with := steady(bare), steady(ours)
	t.Logf(
		"goodput %.2f without a gate, %.2f with; limit %d, peak %d", without[0], with[0], ours.final.Limit, ours.final.Peak,
	)
}

// A fixed limit holds to the last unit, while one client asks for more than all.
func TestTheLimitIsNeverExceeded(t *testing.T) {
	c := control{Kind: sluicedFixed, Limit: 16}
	r, err := run(find(t, "greedy client 2.4x, three at 0.2x"), c, 1)
	require.NoError(t, err)
	requireAccounts(t, r)
	require.LessOrEqual(t, r.final.Peak, c.Limit)
	require.Positive(t, r.final.Worked)
	got := fairness(r)
	t.Logf("peak %d, Jain %.2f, goodput %.2f", r.final.Peak, got[0], got[1])
}

// The last stage's load reaches the entry through the control plane.
func TestTheDecisionReachesTheEntry(t *testing.T) {
	row := find(t, "two stages, 4x")
	reached := false
	for seed := uint64(1); seed <= 10 && !reached; seed++ { // a machine that stalls may take longer than one run
		r, err := run(row, control{Kind: sluicedFixed}, seed)
		require.NoError(t, err)
		requireAccounts(t, r)
		require.Len(t, r.all, 3)
		require.Positive(t, r.final.Worked)
		got := waste(r)
		t.Logf("seed %d: lowest fraction %.2f, goodput %.2f, first-stage work %.2f", seed, r.final.Fraction, got[0], got[2])
		reached = r.final.Fraction < 1
	}
	require.True(t, reached, "the entry's fraction stayed 1 at four times what the last stage can do")
}

func TestFiguresOfKnownAnswers(t *testing.T) {
	row := find(t, "2x")
	r := &result{scenario: row}
	from, to := r.measuredFrom(), row.lasts()
	n := 0
	for at := from; at < to; at += time.Second / 200 { // twice the capacity; every other one is served
		a := answered{due: at, took: 40 * time.Millisecond, client: n % 4}
		if n%2 == 1 {
			a.end = rejected
		}
		r.answers = append(r.answers, a)
		n++
	}
	r.final = report{Worked: int64(n), CPU: time.Duration(n) * time.Millisecond}
	got := steady(r)
	require.InDelta(t, 1, got[0], 0.01)
	require.Equal(t, []float64{40, 1000}, got[1:])
	require.InDelta(t, 2, waste(r)[2], 0.01)
	jain := fairness(r) // only clients 0 and 2 were served, with 0.5 each
	require.InDelta(t, 3.75*3.75/4/(1.25*1.25+2.5*2.5), jain[0], 0.01)
	require.Equal(t, []float64{2, 5}, medians([][]float64{{1, 5}, {9, 4}, {2, 7}}))
	require.Equal(t, 3, pick(1, row.shares))
	require.Equal(t, 1, pick(0.3, row.shares))
	for i := range r.answers {
		if r.answers[i].due < from+300*time.Millisecond {
			r.answers[i].end = late
			continue
		}
		r.answers[i].end = good
	}
	require.Equal(t, []float64{300}, recovery(r))
}
