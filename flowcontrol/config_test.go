package flowcontrol

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fill sets every field of v, nested ones too, to a value that is no default.
func fill(t *testing.T, v reflect.Value) {
	for f, fv := range v.Fields() {
		switch fv.Kind() {
		case reflect.Struct:
			fill(t, fv)
		case reflect.String:
			fv.SetString("7")
		case reflect.Int, reflect.Int64:
			fv.SetInt(7)
		case reflect.Uint8:
			fv.SetUint(1)
		case reflect.Uint64:
			fv.SetUint(7)
		case reflect.Float64:
			fv.SetFloat(0.7)
		case reflect.Bool:
			fv.SetBool(true)
		case reflect.Func: // it has no default
		default:
			t.Fatalf("teach this test about %s %s", f.Name, fv.Kind())
		}
	}
}

func TestDefaultsLoseNoField(t *testing.T) {
	var c Config
	fill(t, reflect.ValueOf(&c).Elem())
	require.Equal(t, c, c.withDefaults())
	d := Config{}.withDefaults()
	require.NoError(t, d.validate())
	require.Equal(t, d, d.withDefaults(), "the defaults have defaults")
	require.Equal(t, Cost{64, -1, -1}, d.Limit)
}

func TestBadConfigurationNamesEveryProblem(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	_, err := New(Config{
		Mode: 9, Limit: Cost{Messages: 1 << 40}, Rate: Rates{Rate(nan), Rate(inf), 1e16}, Burst: Cost{Rows: -1},
		MaxKeys: 1 << 30, PressureLoad: nan, Queue: QueueConfig{Length: 1 << 30, Target: time.Hour},
		Adaptive: AdaptiveConfig{Mode: 3, Min: 10, Max: 5, Start: 100, Tolerance: inf, Window: time.Hour},
	})
	require.Error(t, err)
	for _, field := range []string{
		"Mode", "Rate.Messages", "Rate.Rows", "Rate.Bytes", "Burst.Rows", "MaxKeys", "PressureLoad",
		"Queue.Length", "Queue.Target",
		"Adaptive.Mode", "Adaptive.Min", "Adaptive.Start", "Adaptive.Tolerance", "Adaptive.Window",
	} {
		require.Contains(t, err.Error(), "Config."+field+" is ")
	}
	require.Len(t, strings.Split(err.Error(), "\n"), 14)
	_, err = New(Config{Rate: Rates{Messages: Rate(math.Inf(-1))}})
	require.Error(t, err, "minus infinity")

	th := newTest(t, Config{Name: "kept"})
	require.Error(t, th.Reconfigure(Config{Mode: 9}))
	require.Equal(t, "kept", th.Config().Name)
}

func TestNamesAreAClosedSet(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		require.NotEmpty(t, r.String())
		require.False(t, seen[r.String()])
		seen[r.String()] = true
	}
	require.Len(t, seen, int(reasons)-1)
	require.Equal(t, "Reason(200)", Reason(200).String())
	require.Equal(t, "bytes", Bytes.String())
	require.Equal(t, "Weight(9)", Weight(9).String())
	require.Equal(t, "enforce_under_pressure", EnforceUnderPressure.String())
	require.Equal(t, "Mode(9)", Mode(9).String())
	require.Equal(t, "dropped", Dropped.String())
	require.Equal(t, "Outcome(9)", Outcome(9).String())
	for p, name := range map[Priority]string{
		Background: "background", Normal: "normal", High: "high", Critical: "critical", 9: "Priority(9)",
	} {
		require.Equal(t, name, p.String())
	}
	require.Zero(t, Priority(100).level())
	require.Equal(t, levels-1, Priority(-100).level())
}

// FuzzConfig: whatever is accepted, admits within its limits and never breaks.
func FuzzConfig(f *testing.F) {
	f.Add(int64(4), int64(0), int64(10), 3.0, 1e9, int64(5), int64(7), uint8(0), true, 0.5)
	f.Add(
		int64(-1),
		int64(math.MaxInt64),
		int64(math.MinInt64),
		math.NaN(),
		math.Inf(1),
		int64(-5),
		int64(math.MaxInt64),
		uint8(3),
		false,
		2.0,
	)
	f.Fuzz(
		func(
			t *testing.T, messages, rows, bytes int64, rateM, rateB float64, burst, n int64, mode uint8, oversized bool,
			fraction float64,
		) {
			th, err := New(Config{
				Mode: Mode(mode), Limit: Cost{messages, rows, bytes}, Rate: Rates{Messages: Rate(rateM), Bytes: Rate(rateB)},
				Burst: Cost{Messages: burst}, RejectOversized: oversized, Seed: 1,
			})
			if err != nil {
				return
			}
			th.SetFraction(fraction)
			var held []Permit
			for range 8 {
				p, err := th.TryAcquire(t.Context(), Cost{n, n, n})
				if err == nil {
					held = append(held, p)
				}
				th.Charge(t.Context(), Cost{n, n, n})
				in, limit := th.InFlight(), th.Limit()
				require.GreaterOrEqual(t, min(in.Messages, in.Rows, in.Bytes), int64(0))
				if th.Config().Mode == Enforce || th.Config().Mode == EnforceUnderPressure {
					for w := range Weight(weights) {
						require.True(t, limit.Of(w) < 0 || in.Of(w) <= limit.Of(w), "%v of %v", in, limit)
					}
				}
			}
			for _, p := range held {
				p.Release(Success)
			}
			require.Zero(t, th.InFlight())
			require.False(t, math.IsNaN(th.Load()))
		},
	)
}

func FuzzCost(f *testing.F) {
	f.Add(int64(math.MaxInt64), int64(1))
	f.Add(int64(math.MinInt64), int64(-1))
	f.Fuzz(func(t *testing.T, a, b int64) {
		sum := Cost{a, b, a}.Add(Cost{b, a, b})
		require.Equal(t, sum.Messages, sum.Rows)
		if a >= 0 && b >= 0 {
			require.GreaterOrEqual(t, sum.Messages, max(a, b))
		}
		if a <= 0 && b <= 0 {
			require.LessOrEqual(t, sum.Messages, min(a, b))
		}
		clean := Cost{a, b, a}.clean()
		require.GreaterOrEqual(t, min(clean.Messages, clean.Rows), int64(0))
	})
}
