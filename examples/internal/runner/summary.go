package runner

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/withobsrvr/sluice/examples/internal/sink"
	"github.com/withobsrvr/sluice/examples/internal/verify"
)

// Summary is the result of a run, as -summary json prints it. Ledgers to bytes
// are what the run folder holds, with earlier runs that this one continued; the
// rest is of this run.
type Summary struct {
	Ledgers          int64            `json:"ledgers"`
	Transactions     int64            `json:"transactions"`
	Events           int64            `json:"events"`
	EventsByType     map[string]int64 `json:"events_by_type"`
	Files            int              `json:"files"`
	Bytes            int64            `json:"bytes"`
	DurationSeconds  float64          `json:"duration_seconds"`  // from the first request for events to the last durable one
	EventsPerSecond  float64          `json:"events_per_second"` // made durable by this run
	PeakLoad         float64          `json:"peak_load"`         // of the busiest stage, 0 to 1
	Activations      int64            `json:"activations"`       // of backpressure
	ThrottledSeconds float64          `json:"throttled_seconds"` // how long the fraction was below 1, at the component where it was longest
	FinalFraction    float64          `json:"final_fraction"`
	// Events that the SDK finds and no file has, rows that repeat one that a file
	// has or that the SDK does not know, and rows with another value in any
	// column. Null with -verify=false.
	Lost       *int64 `json:"lost"`
	Duplicates *int64 `json:"duplicates"`
	Different  *int64 `json:"different"`
}

func summarize(cp sink.Checkpoint, p picture, before sink.Checkpoint, seconds float64, v *verify.Result) Summary {
	s := Summary{
		Ledgers: cp.Ledgers, Transactions: cp.Transactions, Events: cp.Events, EventsByType: cp.ByType, Files: len(cp.Files), Bytes: cp.Bytes,
		DurationSeconds: round(seconds), PeakLoad: round(p.peakLoad()), Activations: p.decision.Activations,
		ThrottledSeconds: round(p.throttled()), FinalFraction: round(p.decision.Fraction),
	}
	if s.EventsByType == nil {
		s.EventsByType = map[string]int64{}
	}
	if seconds > 0 {
		s.EventsPerSecond = round(float64(cp.Events-before.Events) / seconds)
	}
	if v != nil {
		s.Lost, s.Duplicates, s.Different = &v.Lost, new(v.Duplicates+v.Unknown), &v.Different
	}
	return s
}

// round keeps three decimals: more says nothing.
func round(f float64) float64 { return math.Round(f*1000) / 1000 }

func (s Summary) writeJSON(w io.Writer) error { return json.NewEncoder(w).Encode(s) }

func (s Summary) writeText(w io.Writer, dir string, memory []string) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-13s %s\n", name, fmt.Sprintf(format, args...))
	}
	b.WriteString("\nSummary\n")
	line("ledgers", "%s", thousands(s.Ledgers))
	line("transactions", "%s", thousands(s.Transactions))
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(s.EventsByType)) {
		kinds = append(kinds, fmt.Sprintf("%s %s", thousands(s.EventsByType[kind]), kind))
	}
	line("events", "%s (%s)", thousands(s.Events), strings.Join(kinds, ", "))
	line("files", "%d in %s, %s", s.Files, dir, size(s.Bytes))
	line("duration", "%.1f s, %s events/s", s.DurationSeconds, thousands(int64(s.EventsPerSecond)))
	line("backpressure", "peak load %.0f%%, activated %s, throttled for %.1f s, fraction %.2f in the end",
		100*s.PeakLoad, times(s.Activations), s.ThrottledSeconds, s.FinalFraction)
	if len(memory) > 0 {
		line("memory", "most resident, in MiB: %s", strings.Join(memory, ", "))
	}
	if s.Lost != nil {
		line(
			"verified",
			"%s lost, %s duplicates, %s different, all columns against the Stellar SDK run directly",
			thousands(*s.Lost),
			thousands(*s.Duplicates),
			thousands(*s.Different),
		)
	} else {
		line("verified", "no (-verify=false)")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return thousands(n) + " times"
}

// thousands groups the digits of n.
func thousands(n int64) string {
	digits := fmt.Sprint(n)
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
}
