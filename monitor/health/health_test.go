package health_test

import (
	"encoding/json"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/health"
	"github.com/withobsrvr/sluice/monitor/monitortest"
)

func newMonitor(t testing.TB, cfg monitor.Config) *monitor.Monitor {
	t.Helper()
	m, err := monitor.New(cfg)
	require.NoError(t, err)
	return m
}

func newHealth(t testing.TB, m *monitor.Monitor, cfg health.Config) *health.Health {
	t.Helper()
	h, err := health.New(m, cfg)
	require.NoError(t, err)
	return h
}

// watched is the health of a started monitor over a script.
func watched(t testing.TB, script *monitortest.Script) *health.Health {
	t.Helper()
	m := newMonitor(t, monitor.Config{Interval: time.Second})
	m.Watch(script)
	h := newHealth(t, m, health.Config{})
	m.Start()
	t.Cleanup(m.Stop)
	return h
}

func pass(d time.Duration) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
}

func load(service string, value float64) func(*monitor.Draft) {
	return func(d *monitor.Draft) {
		v := d.Service(service)
		v.Local, v.Load = true, value
	}
}

type pools []connpool.Stats

func (p pools) Stats() []connpool.Stats { return p }

type calls struct{ stats interceptors.Stats }

func (c *calls) Stats() interceptors.Stats { return c.stats }

func TestConfigProblems(t *testing.T) {
	m := newMonitor(t, monitor.Config{})
	_, err := health.New(m, health.Config{Thresholds: health.Thresholds{
		Load: 2, ErrorRatio: math.NaN(), PoolHealth: -1,
		Latency: -1,
	}})
	require.ErrorIs(t, err, monitor.ErrConfig)
	for _, field := range []string{"Load", "ErrorRatio", "PoolHealth", "Latency"} {
		require.ErrorContains(t, err, "Thresholds."+field)
	}
	require.NotContains(t, err.Error(), "RejectedRatio")
}

// TestReportOfHostileFigures is JSON, whatever ids and figures come from outside.
func TestReportOfHostileFigures(t *testing.T) {
	text, err := json.Marshal(reportOf(t, func(d *monitor.Draft) {
		v := d.Service("a\xffb")
		v.Load, v.ErrorRatio, v.Throughput = math.NaN(), math.Inf(1), math.Inf(-1)
		d.Pipeline().Load = math.Inf(1)
		d.Pool("\x00").Total = -1
	}))
	require.NoError(t, err)
	require.NotContains(t, string(text), "NaN")
}

// TestHeldMemory: less than 1 MB is held for 100 services apart from history,
// also with the engine's windows full of counters that change all the time.
func TestHeldMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heap := func() int64 {
			runtime.GC()
			runtime.GC()
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			return int64(stats.HeapAlloc)
		}
		before := heap()
		m := newMonitor(t, monitor.Config{History: -1})
		began, pipeline := time.Now(), monitortest.Pipeline(100)
		m.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
			pipeline.Collect(d)
			d.Pipeline().ActiveTime = time.Since(began)
			for i := range 99 {
				d.Edge(monitortest.ID(i), monitortest.ID(i+1)).Blocked = time.Since(began) / 2
				d.Reconnections(monitortest.ID(i+1), "goaway", uint64(time.Since(began)/time.Second))
			}
		}))
		h := newHealth(t, m, health.Config{})
		m.Start()
		pass(20 * time.Minute)
		held := heap() - before
		m.Stop()
		t.Logf("%d bytes are held for 100 services", held)
		require.Less(t, held, int64(1<<20))
		runtime.KeepAlive(h)
	})
}
