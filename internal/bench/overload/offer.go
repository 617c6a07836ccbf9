package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// entryID is the id of the stage that the clients call.
const entryID = "entry"

type ending uint8

const (
	good ending = iota
	rejected
	late
)

// An answered is a request and what became of it.
type answered struct {
	due, took time.Duration
	client    int
	end       ending
}

// A result is one run of one scenario under one control.
type result struct {
	scenario scenario
	answers  []answered
	// warm and final are the entry's counts at the beginning of what is measured, and when all was done.
	warm, final report
	all         []report // final, of every server
}

// run starts the servers, offers the load, and ends them.
func run(s scenario, c control, seed uint64) (r *result, err error) {
	var children []*child
	launch := func(r role) (*child, error) {
		started, err := start(r)
		if err == nil {
			children = append(children, started)
		}
		return started, err
	}
	defer func() {
		for _, c := range slices.Backward(children) {
			err = errors.Join(err, c.end())
		}
	}()
	entry := role{ID: entryID, Control: c, Slots: slots, Entry: true}
	if s.stages == 2 {
		last := role{ID: "last", Control: c, Slots: slots}
		if c.ours() {
			plane, err := launch(role{ID: "control plane", Plane: true, Activation: c.Activation, Recovery: c.Recovery})
			if err != nil {
				return nil, err
			}
			last.Report, entry.Report = plane.first.Address, plane.first.Address
		}
		second, err := launch(last)
		if err != nil {
			return nil, err
		}
		entry.Slots, entry.Next = 2*slots, second.first.Address
	}
	first, err := launch(entry)
	if err != nil {
		return nil, err
	}
	r = &result{scenario: s}
	warm := make(chan error, 1)
	mark := time.AfterFunc(s.lasts()-s.measured, func() {
		var err error
		r.warm, err = first.ask("count")
		warm <- err
	})
	defer mark.Stop()
	if r.answers, err = offer(first.first.Address, s, seed); err != nil {
		return nil, err
	}
	if err := <-warm; err != nil {
		return nil, err
	}
	for _, c := range slices.Backward(children) { // callers before those whom they call
		final, err := c.ask("stop")
		if err != nil {
			return nil, err
		}
		r.all = append(r.all, final)
		if c == first {
			r.final = final
		}
	}
	return r, nil
}

// offer sends the requests and never waits for an answer to send the next.
func offer(address string, s scenario, seed uint64) ([]answered, error) {
	var conns []*grpc.ClientConn
	for range s.shares {
		conn, err := dial(address)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	random := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	var answers []answered
	var calls sync.WaitGroup
	began := time.Now()
	end, next := time.Duration(0), time.Duration(0)
	for _, p := range s.phases {
		next = max(next, end)
		end += p.lasts
		in := &request{Service: p.hold.String()}
		for {
			next += time.Duration(random.ExpFloat64() / (p.load * s.capacity()) * 1e9)
			if next >= end {
				break
			}
			if wait := next - time.Since(began); wait > 0 {
				<-time.After(wait)
			}
			a := answered{due: next, client: pick(random.Float64(), s.shares)}
			calls.Go(func() {
				ctx, cancel := context.WithDeadline(context.Background(), began.Add(a.due+s.deadline()))
				defer cancel()
				ctx = metadata.AppendToOutgoingContext(ctx, tenantKey, fmt.Sprint("client-", a.client))
				err := conns[a.client].Invoke(ctx, workMethod, in, new(response))
				a.took = time.Since(began) - a.due
				switch code := status.Code(err); {
				case code == codes.Unavailable || code == codes.ResourceExhausted:
					a.end = rejected
				case err != nil || a.took > s.deadline():
					a.end = late
				}
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, a)
			})
		}
	}
	calls.Wait()
	return answers, nil
}

func pick(x float64, shares []float64) int {
	for i, share := range shares {
		if x -= share; x < 0 {
			return i
		}
	}
	return len(shares) - 1
}
