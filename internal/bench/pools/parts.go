package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/withobsrvr/sluice/connpool"
	"google.golang.org/grpc"
)

type kind struct {
	name string
	open func(address string) (closer, error)
}

// limit: long streams against a server limit of 100, then unary calls.
func limit(e env) error {
	kinds := []kind{
		{"one connection", single},
		{"static pool of 4", newStatic(4)},
		{"sluice", pooled(nil)},
		{"sluice, unary lane", pooled(withUnaryLane)},
		{"sluice, at most 4", pooled(func(c *connpool.Config) { c.MaxConnections = 4 })},
		{"sluice, at most 4, unary lane", pooled(func(c *connpool.Config) { c.MaxConnections = 4; withUnaryLane(c) })},
	}
	e.head("Streams that started of those wanted, and unary calls answered within 1 s, at a server limit of 100:",
		"client", "99", "100", "250", "400")
	sizes := []int{99, 100, 250, 400}
	if e.small {
		sizes = []int{100}
	}
	for _, k := range kinds {
		cells := []any{k.name}
		for _, n := range sizes {
			started, answered, calls, err := limitOnce(e, k, n)
			if err != nil {
				return err
			}
			cells = append(cells, fmt.Sprintf("%d/%d, unary %d/%d", started, n, answered, calls))
		}
		e.row(cells...)
	}
	return nil
}

func limitOnce(e env, k kind, n int) (started, answered, calls int, err error) {
	cc, err := k.open(e.limited)
	if err != nil {
		return 0, 0, 0, err
	}
	defer cc.Close()
	ctx, cancel := context.WithCancel(e)
	var up atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			s, err := get(ctx, cc, "hold")
			if err != nil {
				return
			}
			if _, err := s.Recv(); err == nil {
				up.Add(1)
				_, _ = s.Recv()
			}
		})
	}
	wait(2*time.Second, func() bool { return int(up.Load()) == n })
	calls = 20
	if _, ok := unary(e, cc, time.Second); !ok {
		calls = 3 // each takes its whole second
	}
	for range calls {
		if _, ok := unary(e, cc, time.Second); ok {
			answered++
		}
	}
	started = int(up.Load())
	cancel()
	wg.Wait()
	return started, answered, calls, nil
}

// wait looks until done or the time is up.
func wait(d time.Duration, done func() bool) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(d)
	for !done() {
		select {
		case <-tick.C:
		case <-end:
			return
		}
	}
}

// isolation: unary latency while bulk streams run.
func isolation(e env) error {
	kinds := []kind{
		{"one connection", single}, {"static pool of 4", newStatic(4)}, {"sluice, unary lane", pooled(withUnaryLane)},
	}
	bulk := []int{1, 4, 16}
	if e.small {
		bulk = []int{1}
	}
	e.head("Unary latency, median of the rounds' medians (worst p99), beside bulk DoGets of 1 MiB messages:",
		"client", "1 stream", "4 streams", "16 streams")
	for _, k := range kinds {
		cells := []any{k.name}
		for _, n := range bulk {
			var p50, p99 []time.Duration
			for range e.rounds {
				v, err := isolationOnce(e, k, n)
				if err != nil {
					return err
				}
				m := median(v)
				p50, p99 = append(p50, m), append(p99, v[len(v)*99/100])
			}
			median(p99)
			cells = append(cells, fmt.Sprintf("%.1f ms (%.0f)", ms(median(p50)), ms(p99[len(p99)-1])))
		}
		e.row(cells...)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func isolationOnce(e env, k kind, n int) (took []time.Duration, err error) {
	cc, err := k.open(e.free)
	if err != nil {
		return nil, err
	}
	defer cc.Close()
	ctx, cancel := context.WithCancel(e)
	var wg sync.WaitGroup
	var started atomic.Int64
	for range n {
		wg.Go(func() {
			s, err := get(ctx, cc, "flood 1048576")
			if err != nil {
				return
			}
			first := true
			_ = drain(s, func(int) {
				if first {
					started.Add(1)
				}
				first = false
			})
		})
	}
	wait(5*time.Second, func() bool { return int(started.Load()) == n })
	unary(e, cc, 5*time.Second) // connects the lane
	for range 40 {
		d, _ := unary(e, cc, 5*time.Second)
		took = append(took, d)
	}
	cancel()
	wg.Wait()
	return took, nil
}

// throughput: short streams of small messages in a closed loop.
func throughput(e env) error {
	kinds := []kind{
		{"one connection", single},
		{"static pool of 4", newStatic(4)},
		{"sluice", pooled(nil)},
		{"sluice, first healthy", pooled(func(c *connpool.Config) { c.Picker = connpool.FirstHealthy })},
	}
	loops := []int{1, 8, 64, 256}
	if e.small {
		loops = []int{2}
	}
	e.head("Messages a second against one connection in the same round, DoGets of 50 x 4 KiB in a closed loop,"+
		" median (lowest to highest):",
		"client", "1 stream", "8", "64", "256")
	rates := make([][][]float64, len(kinds)) // by kind, size and round: the kinds take turns
	for i := range kinds {
		rates[i] = make([][]float64, len(loops))
	}
	for range e.rounds {
		for j, n := range loops {
			for i, k := range kinds {
				r, err := throughputOnce(e, k, n)
				if err != nil {
					return err
				}
				rates[i][j] = append(rates[i][j], r)
			}
		}
	}
	for i, k := range kinds {
		cells := []any{k.name}
		for j := range loops {
			var ratios []float64
			for round, r := range rates[i][j] {
				ratios = append(ratios, r/rates[0][j][round])
			}
			m := median(ratios)
			cells = append(cells, fmt.Sprintf("x%.2f (%.2f-%.2f)", m, ratios[0], ratios[len(ratios)-1]))
		}
		e.row(cells...)
	}
	cells := []any{"one connection, messages a second"}
	for j := range loops {
		cells = append(cells, fmt.Sprintf("%.0fk", median(rates[0][j])/1e3))
	}
	e.row(cells...)
	return nil
}

func throughputOnce(e env, k kind, n int) (float64, error) {
	cc, err := k.open(e.free)
	if err != nil {
		return 0, err
	}
	defer cc.Close()
	span := 600 * time.Millisecond
	if e.small {
		span = 50 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(e, span)
	defer cancel()
	var messages atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				s, err := get(ctx, cc, "50 x 4096")
				if err != nil {
					return
				}
				_ = drain(s, func(int) { messages.Add(1) })
			}
		})
	}
	wg.Wait()
	return float64(messages.Load()) / span.Seconds(), nil
}

// price: what the pool adds to a call.
func price(e env) error {
	kinds := []kind{
		{"plain connection", single},
		{"sluice", pooled(func(c *connpool.Config) { c.MinConnections, c.MaxConnections = 1, 1 })},
	}
	e.head("CPU and allocations of the client, the lowest of the rounds, one caller, one connection:",
		"client", "unary call", "DoGet of 50 messages")
	for _, k := range kinds {
		cc, err := k.open(e.free)
		if err != nil {
			return err
		}
		callCPU, callAllocs := cost(e, 2000, func() { unary(e, cc, 10*time.Second) })
		getCPU, getAllocs := cost(e, 300, func() {
			if s, err := get(e, cc, "50 x 4096"); err == nil {
				_ = drain(s, func(int) {})
			}
		})
		_ = cc.Close()
		e.row(k.name, fmt.Sprintf("%.1f us, %d allocs", callCPU, callAllocs),
			fmt.Sprintf("%.1f us, %d allocs", getCPU, getAllocs))
	}
	return nil
}

func cost(e env, n int, do func()) (us float64, allocs uint64) {
	if e.small {
		n = 5
	}
	do()
	us = 1e9
	for range e.rounds {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		cpu := cpuTime()
		for range n {
			do()
		}
		us = min(us, float64(cpuTime()-cpu)/float64(n)/1e3)
		runtime.ReadMemStats(&after)
		allocs = (after.Mallocs - before.Mallocs) / uint64(n)
	}
	return us, allocs
}

// connection: memory of an idle connection, and time to the first.
func connection(e env) error {
	const conns = 200
	n := conns
	if e.small {
		n = 4
	}
	var opened []time.Duration
	for range max(e.rounds, 5) {
		p, err := pooled(func(c *connpool.Config) { c.MinConnections, c.MaxConnections = 1, 1 })(e.free)
		if err != nil {
			return err
		}
		began := time.Now()
		wait(5*time.Second, func() bool { return p.(*connpool.Pool).Stats().HealthyConnections == 1 })
		opened = append(opened, time.Since(began))
		_ = p.Close()
	}
	before, goroutines := inUse(), runtime.NumGoroutine()
	p, err := pooled(func(c *connpool.Config) { c.MinConnections, c.MaxConnections = n, n })(e.free)
	if err != nil {
		return err
	}
	defer p.Close()
	began := time.Now()
	wait(20*time.Second, func() bool { return p.(*connpool.Pool).Stats().HealthyConnections == n })
	took := time.Since(began)
	e.head(fmt.Sprintf("An idle connection (client side, of %d in one pool), plaintext:", n),
		"memory", "goroutines", "time to open, in sequence", "time from New to ready, by 5 ms looks")
	after := inUse()
	e.row(fmt.Sprintf("%.1f KiB", float64(after-before)/float64(n)/1024),
		fmt.Sprintf("%.1f", float64(runtime.NumGoroutine()-goroutines)/float64(n)),
		fmt.Sprintf("%.2f ms", ms(took)/float64(n)), fmt.Sprintf("%.1f ms", ms(median(opened))))
	return nil
}

// inUse is heap and stacks after a collection.
func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// windows: what stalled streams hold.
func windows(e env) error {
	n := 64
	if e.small {
		n = 2
	}
	e.head(fmt.Sprintf("Client memory of %d DoGets of 1 MiB messages that nobody reads any more,"+
		" after each had read 32 messages:", n), "windows", "memory")
	for _, k := range []kind{
		{"grown by gRPC (default)", pooled(nil)},
		{"static, 256 KiB a stream, 1 MiB a connection", pooled(func(c *connpool.Config) {
			c.DialOptions = []grpc.DialOption{grpc.WithStaticStreamWindowSize(256 << 10), grpc.WithStaticConnWindowSize(1 << 20)}
		})},
	} {
		cc, err := k.open(e.free)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(e)
		before := inUse()
		var wg sync.WaitGroup
		var read atomic.Int64
		for range n {
			wg.Go(func() {
				s, err := get(ctx, cc, "flood 1048576")
				for i := 0; err == nil && i < 32; i++ {
					_, err = s.Recv()
				}
				read.Add(1)
				<-ctx.Done()
			})
		}
		wait(20*time.Second, func() bool { return int(read.Load()) == n })
		last := uint64(0)
		wait(5*time.Second, func() bool { // until no more comes
			now := inUse()
			same := now/1024/1024 == last/1024/1024
			last = now
			return same
		})
		e.row(k.name, fmt.Sprintf("%.0f MiB", float64(int64(last)-int64(before))/(1<<20)))
		cancel()
		wg.Wait()
		_ = cc.Close()
	}
	return nil
}

// races: calls against connections that are replaced all the time.
func races(e env) error {
	n := e.calls
	if e.small {
		n = 200
	}
	cc, err := pooled(func(c *connpool.Config) { c.MaxAge, c.MaxRetries = 10*time.Millisecond, -1 })(e.free)
	if err != nil {
		return err
	}
	defer cc.Close()
	var left, failed atomic.Int64
	left.Store(n)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, ok := unary(e, cc, time.Minute); !ok {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	st := cc.(*connpool.Pool).Stats()
	e.head("Calls while every connection is replaced after 10 ms, without retries:",
		"calls", "connections opened", "failed calls")
	opened := uint64(0)
	for _, of := range st.Opened {
		opened += of
	}
	e.row(n, opened, failed.Load())
	return nil
}
