package interceptors

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/orca"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// LoadReports says how the server reports its load to gRPC's weighted round robin
// (ORCA, gRFC A51). Clients choose "weighted_round_robin" in their service config.
type LoadReports uint8

const (
	// LoadReportsOff sends none.
	LoadReportsOff LoadReports = iota
	// LoadReportsPerCall sends the load in the trailer of each call. It works
	// through [Server.ServerOptions] alone, which hold the part that writes the trailer.
	LoadReportsPerCall
	// LoadReportsAll also keeps the out-of-band report current, which
	// [Server.RegisterLoadService] offers. Long streams need it: their trailer comes at their end.
	LoadReportsAll
)

// loadReports turns what the server knows into ORCA's terms: utilization is the
// throttler's load, or open streams over their limit where that is more.
type loadReports struct {
	server   *Server
	mode     LoadReports
	recorder orca.ServerMetricsRecorder

	mu            sync.Mutex // guards what is below
	window        time.Time
	calls, errors int64
	qps, eps      float64
}

// rateWindow is over what calls and errors a second are counted. A report with
// no calls a second is ignored by the balancer.
const rateWindow = time.Second

func (l *loadReports) init(s *Server) {
	l.server, l.mode = s, s.cfg.LoadReports
	if l.mode != LoadReportsOff {
		l.recorder = orca.NewServerMetricsRecorder()
		l.window = time.Now()
	}
}

func (l *loadReports) serverOptions() []grpc.ServerOption {
	if l.mode == LoadReportsOff {
		return nil
	}
	return []grpc.ServerOption{orca.CallMetricsServerOption(l)}
}

// ServerMetrics implements orca.ServerMetricsProvider: it is asked when a report is due.
func (l *loadReports) ServerMetrics() *orca.ServerMetrics {
	l.refresh()
	return l.recorder.ServerMetrics()
}

func (l *loadReports) refresh() {
	s := l.server
	streams := 0.0
	if s.maxStreams > 0 {
		streams = float64(s.openStreams()) / float64(s.maxStreams)
	}
	load := streams
	if s.throttler != nil {
		load = max(load, gateLoad(s.throttler))
		l.nameWeights(s.throttler)
	}
	qps, eps := l.rates()
	l.recorder.SetApplicationUtilization(load)
	l.recorder.SetQPS(qps)
	l.recorder.SetEPS(eps)
	l.recorder.SetNamedUtilization("sluice.streams", min(streams, 1))
}

// nameWeights adds the utilization of each weight that the gate limits.
func (l *loadReports) nameWeights(gate Gate) {
	g, ok := gate.(interface {
		InFlight() flowcontrol.Cost
		Limit() flowcontrol.Cost
	})
	if !ok {
		return
	}
	in, limit := g.InFlight(), g.Limit()
	for _, w := range [...]struct {
		name      string
		in, limit int64
	}{{"messages", in.Messages, limit.Messages}, {"rows", in.Rows, limit.Rows}, {"bytes", in.Bytes, limit.Bytes}} {
		if w.limit > 0 {
			l.recorder.SetNamedUtilization("sluice."+w.name, min(float64(w.in)/float64(w.limit), 1))
		}
	}
}

// rates returns calls and errors a second over the last full window, or over
// what there is of the first.
func (l *loadReports) rates() (qps, eps float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if elapsed := time.Since(l.window); elapsed >= rateWindow || l.qps == 0 {
		seconds := max(elapsed, time.Millisecond).Seconds()
		l.qps, l.eps = float64(l.calls)/seconds, float64(l.errors)/seconds
		if elapsed >= rateWindow {
			l.window, l.calls, l.errors = time.Now(), 0, 0
		}
	}
	return l.qps, l.eps
}

// touch makes the trailer be sent at all: gRPC sends one only for calls whose
// recorder was asked for.
func (l *loadReports) touch(ctx context.Context) {
	if l.mode != LoadReportsOff {
		orca.CallMetricsRecorderFromContext(ctx)
	}
}

func (l *loadReports) report(err error) {
	if l.mode == LoadReportsOff {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if endingOf(err).failed() {
		l.errors++
	}
}

// RegisterLoadService offers the load out of band, for clients that ask every
// interval; gRPC serves no interval below 30 s. It needs [LoadReportsAll].
func (s *Server) RegisterLoadService(r grpc.ServiceRegistrar, interval time.Duration) error {
	all := s.load.mode == LoadReportsAll
	if err := check(all, "LoadReports", s.load.mode, "LoadReportsAll for the load service"); err != nil {
		return err
	}
	return orca.Register(r, orca.ServiceOptions{ServerMetricsProvider: &s.load, MinReportingInterval: interval})
}
