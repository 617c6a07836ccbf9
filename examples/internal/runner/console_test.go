package runner

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/sink"
	"github.com/withobsrvr/sluice/examples/internal/verify"
)

// A screen is as much of a terminal as the console needs: it applies cursor-up
// and clear-to-end, and knows its lines.
type screen struct {
	lines []string
	row   int
}

func (s *screen) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		if rest, ok := strings.CutPrefix(text, "\x1b["); ok {
			end := strings.IndexAny(rest, "AJ")
			switch rest[end] {
			case 'A':
				s.row -= int(rest[0] - '0')
			case 'J':
				s.lines = s.lines[:s.row]
			}
			text = rest[end+1:]
			continue
		}
		if text[0] == '\r' {
			text = text[1:]
			continue
		}
		line, rest, _ := strings.Cut(text, "\n")
		s.lines = append(s.lines[:s.row], line)
		s.row++
		text = rest
	}
	return len(p), nil
}

func TestConsoleKeepsLinesAboveTheBlock(t *testing.T) {
	s := &screen{}
	c := &console{out: s, logs: s, live: true, width: func() int { return 20 }}
	c.say("begin")
	c.draw("one\ntwo, which is wider than the screen\n")
	require.Equal(t, []string{"begin", "one", "two, which is wider"}, s.lines)
	c.say("hello")
	require.Equal(t, []string{"begin", "hello", "one", "two, which is wider"}, s.lines)
	c.draw("three\n")
	require.Equal(t, []string{"begin", "hello", "three"}, s.lines)
	log := c.logWriter()
	_, _ = log.Write([]byte("half a "))
	require.Equal(t, []string{"begin", "hello", "three"}, s.lines, "only whole lines")
	_, _ = log.Write([]byte("line\nand m"))
	require.Equal(t, []string{"begin", "hello", "half a line", "three"}, s.lines)
	c.draw("")
	require.Equal(t, []string{"begin", "hello", "half a line"}, s.lines)
}

func TestConsoleOnAPipeWritesNoEscapes(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer out.Close()
	var logs bytes.Buffer
	c := newConsole(out, &logs)
	require.False(t, c.live)
	c.say("%d ledgers", 2)
	c.draw("")
	_, _ = c.logWriter().Write([]byte("log\n"))
	text, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	require.Equal(t, "2 ledgers\n", string(text))
	require.Equal(t, "log\n", logs.String())
}

func TestRenderFitsTheTerminal(t *testing.T) {
	m := meter{total: 200}
	var p picture
	p.decision = component.Decision{Fraction: 0.25, Active: true}
	p.sink.Ledgers, p.sink.Events = 87, 41852
	p.stages = map[component.Role]component.Status{component.RoleSink: {Load: 0.88}}
	m.add(p)
	for _, width := range []int{80, 100, 200} {
		for line := range strings.Lines(m.render(p, width)) {
			require.Less(t, len(strings.TrimSuffix(line, "\n")), width, line)
		}
	}
	block := m.render(p, 100)
	for _, want := range []string{"87/200 ledgers", "41,852 events", "fraction 0.25", "source 0%", "sink 88%", "backpressure", "###", "time left unknown"} {
		require.Contains(t, block, want)
	}
	require.Contains(t, m.line(p), "87 of 200 ledgers, 41852 events")
	p.sink.Ledgers = 200
	all := meter{total: 200}
	all.add(p)
	require.Contains(t, all.line(p), "0s left", "also where it was so quick that there is no rate")
	p.sink.Ledgers = 250 // more than was expected must not break the bar
	require.NotPanics(t, func() { m.render(p, 80) })
}

// The JSON object has exactly the documented keys.
func TestSummaryKeys(t *testing.T) {
	cp := sink.Checkpoint{
		Ledgers:      2,
		Transactions: 412,
		Events:       962,
		ByType:       map[string]int64{"fee": 514},
		Files:        make([]sink.File, 1),
		Bytes:        1000,
	}
	p := picture{decision: component.Decision{Fraction: 1, Activations: 3}, stages: map[component.Role]component.Status{
		component.RoleSink:   {PeakLoad: 0.91},
		component.RoleSource: {ThrottledSeconds: 2.5},
	}}
	s := summarize(cp, p, sink.Checkpoint{Events: 62}, 2, &verify.Result{Lost: 1, Duplicates: 2, Unknown: 3})
	var out bytes.Buffer
	require.NoError(t, s.writeJSON(&out))
	require.Equal(t, 1, strings.Count(out.String(), "\n"), "one line")
	require.JSONEq(t, `{"ledgers":2,"transactions":412,"events":962,"events_by_type":{"fee":514},"files":1,"bytes":1000,
		"duration_seconds":2,"events_per_second":450,"peak_load":0.91,"activations":3,"throttled_seconds":2.5,"final_fraction":1,"lost":1,"duplicates":5,"different":0}`, out.String())

	out.Reset()
	require.NoError(t, summarize(cp, p, sink.Checkpoint{}, 0, nil).writeJSON(&out))
	var keys map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &keys))
	require.Len(t, keys, 15)
	require.Nil(t, keys["lost"])

	out.Reset()
	require.NoError(t, s.writeText(&out, "sluice-out/run-1", []string{"sink 118", "source 98"}))
	for _, want := range []string{"962 (514 fee)", "1 in sluice-out/run-1", "activated 3 times", "memory        most resident, in MiB: sink 118, source 98", "1 lost, 5 duplicates"} {
		require.Contains(t, out.String(), want)
	}
}

func TestTimes(t *testing.T) {
	require.Equal(t, []string{"0 times", "once", "1,000 times"}, []string{times(0), times(1), times(1000)})
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 240500: "240,500", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		require.Equal(t, want, thousands(n))
	}
}

func TestRunFolders(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	now := time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)
	_, _, err := findRun(out, LastRun)
	require.ErrorContains(t, err, "there is no run below")
	first, err := newRun(out, now)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(out, "run-20261123-210000"), first)
	second, err := newRun(out, now)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(out, "run-20261123-210000-02"), second)

	dir, cp, err := findRun(out, LastRun)
	require.NoError(t, err, "a run that was stopped before its sink was up can be continued")
	require.Equal(t, second, dir)
	require.Zero(t, cp)
	_, _, err = findRun(out, filepath.Join(out, "nothing"))
	require.ErrorContains(t, err, "cannot be continued")
	require.NoError(t, os.WriteFile(filepath.Join(first, "checkpoint.json"), []byte("{"), 0o644))
	_, _, err = findRun(out, first)
	require.ErrorContains(t, err, "cannot be continued")
}

func TestLookupIn(t *testing.T) {
	lookup := lookupIn([]string{"A=1", "B=2", "A=3", "AB=4"})
	v, ok := lookup("A")
	require.True(t, ok)
	require.Equal(t, "3", v, "the last one wins, as in a process")
	_, ok = lookup("C")
	require.False(t, ok)
}
