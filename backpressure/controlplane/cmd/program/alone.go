package program

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// The collector's goals, in percent of what lives. Most of what the process holds
// is one connection for each agent, with the stacks of four goroutines: it does
// not move, and to look through it takes 0.16 s with 10,000 agents. At rest there
// is little garbage: 13 percent, then 20 MiB, are collected every 7 s. A wave of
// signals must not wait for that.
const (
	goalAtRest = 13
	goalAtWork = 40
)

// alone fits a process that is a control plane and nothing else to its work,
// until ctx ends. What the environment sets, GOGC and GOMAXPROCS, stays.
func alone(ctx context.Context, changed func() <-chan struct{}) {
	collect := func(goal int) { debug.SetGCPercent(goal) }
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(goalAtRest))
	} else {
		collect = func(int) {}
	}
	if os.Getenv("GOMAXPROCS") != "" {
		<-ctx.Done()
		return
	}
	processors{
		one: func() {
			runtime.GOMAXPROCS(1)
			collect(goalAtRest)
		},
		all: func() {
			runtime.SetDefaultGOMAXPROCS()
			collect(goalAtWork)
		},
		late: func(due time.Time) time.Duration { return time.Since(due) },
	}.spare(ctx, changed)
}

// processors are those of the process. A report is a few microseconds of work in
// two goroutines: with more than one processor, each report wakes a second one
// that comes too late to help, and a tenth of the time is spent on that. A wave
// of signals to all agents is what the others are for.
type processors struct {
	one, all func()
	late     func(due time.Time) time.Duration
}

const (
	// settled is how long the decision has not changed when one processor is
	// enough, and relieved is the same after one was not.
	settled  = 2 * time.Second
	relieved = time.Minute

	// One processor is not enough when so many looks in a row came so late: it has
	// not been free for half a second. What is collected for the monitor, or a
	// neighbour, delays a few of them.
	look      = 20 * time.Millisecond
	lateness  = 5 * time.Millisecond
	lateLooks = 25
)

// spare keeps the process on one processor while that is enough.
func (p processors) spare(ctx context.Context, changed func() <-chan struct{}) {
	defer p.all()
	for ctx.Err() == nil {
		p.one()
		pause := settled
		if p.overwhelmed(ctx, changed()) {
			pause = relieved
		}
		p.all()
		settle(ctx, changed, pause)
	}
}

// overwhelmed returns when one processor is no longer enough, and whether that
// is so because it cannot keep up.
func (p processors) overwhelmed(ctx context.Context, changed <-chan struct{}) bool {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for late := 0; late < lateLooks; {
		select {
		case <-ctx.Done():
			return false
		case <-changed:
			return false
		case due := <-ticker.C:
			if late++; p.late(due) < lateness {
				late = 0
			}
		}
	}
	return true
}

// settle returns when nothing has changed for the pause.
func settle(ctx context.Context, changed func() <-chan struct{}, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed():
			timer.Reset(pause)
		case <-timer.C:
			return
		}
	}
}
