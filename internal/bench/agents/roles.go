package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/cmd/sluice-controlplane/serve"
	"github.com/withobsrvr/sluice/topology"
)

func say(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }

// usage is what the server process has used so far.
type usage struct {
	At                     time.Time
	CPU                    float64 // seconds
	Resident, Heap         int64
	Goroutines, Components int
	Reports                uint64
	Stacks, Allocated      int64
	Collections            uint32
}

// traffic is what the agents of a process have sent and received, in bytes.
type traffic struct{ Up, Down int64 }

// meter counts the bytes of every connection, on the agents' side: gRPC treats a
// wrapped connection worse than a bare one, and the server's is what is measured.
type meter struct{ read, written atomic.Int64 }

type meteredConn struct {
	net.Conn
	m *meter
}

func (m *meter) dial(ctx context.Context, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return meteredConn{conn, m}, nil
}

func (c meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.m.read.Add(int64(n))
	return n, err
}

func (c meteredConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.m.written.Add(int64(n))
	return n, err
}

// plane is cmd/sluice-controlplane, with its HTTP or without.
func plane(mode, profile string, web bool) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(35) // as the program does
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var pages net.Listener
	if web {
		if pages, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
	}
	cfg := server.Config{Decision: backpressure.Config{Learn: -1, MaxInFlight: -1}}
	if mode == "latency" {
		cfg.Decision.Policy = backpressure.Step{}
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ready := make(chan *server.Server, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, serve.Config{
			GRPC: listener, HTTP: pages, Server: cfg,
			Ready: func(s *server.Server) { ready <- s },
		})
	}()
	var s *server.Server
	select {
	case s = <-ready:
	case err := <-ended:
		return err
	}
	if err := say(listener.Addr().String()); err != nil {
		return err
	}
	asked := 0
	for in := bufio.NewScanner(os.Stdin); in.Scan(); asked++ {
		u, err := used()
		if err != nil {
			return err
		}
		if profile != "" {
			if err := profiles(profile, asked); err != nil {
				return err
			}
		}
		u.Components = len(s.Controller().Loads())
		u.Reports = s.Reports()
		if err := say(u); err != nil {
			return err
		}
	}
	stop()
	return <-ended
}

// profiles begins a CPU profile with the first question and ends it with the second.
func profiles(directory string, asked int) error {
	switch asked {
	case 0:
		file, err := os.Create(filepath.Join(directory, "cpu.pprof"))
		if err != nil {
			return err
		}
		return pprof.StartCPUProfile(file) // the file lives as long as the process
	case 1:
		pprof.StopCPUProfile()
		file, err := os.Create(filepath.Join(directory, "heap.pprof"))
		if err != nil {
			return err
		}
		return errors.Join(pprof.Lookup("heap").WriteTo(file, 0), file.Close())
	}
	return nil
}

func used() (u usage, err error) {
	u.At = time.Now()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return u, err
	}
	u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return u, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		return u, err
	}
	u.Resident = pages * int64(os.Getpagesize())
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	u.Heap, u.Stacks = int64(memory.HeapAlloc), int64(memory.StackInuse)
	u.Allocated, u.Collections = int64(memory.TotalAlloc), memory.NumGC
	u.Goroutines = runtime.NumGoroutine()
	return u, nil
}

// round is one measurement over all agents, in milliseconds.
type round struct{ P50, P99, Last float64 }

// member is one component with its agent.
type member struct {
	agent    *agent.Agent
	inFlight atomic.Int64
	told     atomic.Int64 // when, in nanoseconds since the start
	fraction atomic.Value
	begin    time.Time
}

func (m *member) SetFraction(f float64) {
	m.told.Store(int64(time.Since(m.begin)))
	m.fraction.Store(f)
}

func agents(mode, address string, first, count, rounds int) error {
	debug.SetGCPercent(200)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	begin := time.Now()
	var idle atomic.Bool
	var bytes meter
	members := make([]*member, count)
	connecting := make(chan struct{}, 32)
	for i := range members {
		m := &member{begin: begin}
		members[i] = m
		reported := time.Now()
		load := int64(10)
		var err error
		m.agent, err = agent.New(agent.Config{
			Endpoint:    address,
			DialOptions: []grpc.DialOption{grpc.WithContextDialer(bytes.dial)},
			CallTimeout: time.Minute,
			Component: controlplane.Component{
				ID:          fmt.Sprintf("component-%05d", first+i),
				Kind:        topology.KindProcessor,
				MaxInFlight: 100,
			},
			Targets: []backpressure.FractionSetter{m},
			Report: func() backpressure.Report {
				if mode == "latency" {
					return backpressure.Report{InFlight: m.inFlight.Load(), MaxInFlight: 100}
				}
				if now := time.Now(); !idle.Load() && now.Sub(reported) >= time.Second {
					reported = now
					load = (load+6+rand.Int64N(20))%50 + 5 // moved by a step each second
				}
				return backpressure.Report{InFlight: load, MaxInFlight: 100, Throughput: 1000}
			},
		})
		if err != nil {
			return err
		}
		connecting <- struct{}{}
		running.Go(func() { m.agent.Run(ctx) })
		go func() {
			for m.agent.Mode() != backpressure.Coordinated && ctx.Err() == nil {
				time.Sleep(20 * time.Millisecond)
			}
			<-connecting
		}()
	}
	deadline := time.Now().Add(3 * time.Minute)
	for _, m := range members {
		for m.agent.Mode() != backpressure.Coordinated {
			if time.Now().After(deadline) {
				return errors.New("not all agents were connected within three minutes")
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if err := say(true); err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "traffic":
			if err := say(traffic{bytes.written.Load(), bytes.read.Load()}); err != nil {
				return err
			}
		case "idle":
			idle.Store(true)
			if err := say(true); err != nil {
				return err
			}
		case "run":
			found := make([]round, rounds)
			for i := range found {
				found[i] = cross(members)
			}
			if err := say(found); err != nil {
				return err
			}
		}
	}
	return nil
}

// cross lets the first component's load cross the threshold, waits for all, and
// goes back.
func cross(members []*member) round {
	set := func(inFlight int64, want float64) round {
		time.Sleep(300 * time.Millisecond)
		from := time.Since(members[0].begin)
		members[0].inFlight.Store(inFlight)
		members[0].agent.Notify()
		took := make([]float64, len(members))
		for i, m := range members {
			for m.fraction.Load() != want {
				time.Sleep(time.Millisecond)
			}
			took[i] = float64(m.told.Load()-int64(from)) / 1e6
		}
		slices.Sort(took)
		return round{took[len(took)/2], took[len(took)*99/100], took[len(took)-1]}
	}
	r := set(90, 0.5)
	set(10, 1)
	return r
}
