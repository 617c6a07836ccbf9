package runner

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

// A console shows progress. On a terminal it is a block of lines that is drawn
// over and over; elsewhere a line now and then. Log lines and progress share
// the screen, so both go through it.
//
// It is safe for concurrent use.
type console struct {
	mu    sync.Mutex
	out   io.Writer
	logs  io.Writer
	live  bool
	width func() int
	drawn int // lines of the block on the screen
	block string
}

// newConsole writes to out, which is a terminal or not, and logs to logs.
func newConsole(out *os.File, logs io.Writer) *console {
	c := &console{out: out, logs: logs, width: func() int { return 80 }}
	if term.IsTerminal(int(out.Fd())) && os.Getenv("TERM") != "dumb" {
		c.live = true
		c.width = func() int {
			width, _, err := term.GetSize(int(out.Fd()))
			if err != nil || width < 20 {
				return 80
			}
			return width
		}
	}
	return c
}

// say writes a line that stays.
func (c *console) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aboveLocked(c.out, fmt.Appendf(nil, format+"\n", args...))
}

// draw replaces the block; an empty one removes it. Without a terminal there is
// no block.
func (c *console) draw(block string) {
	if !c.live {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	width := c.width()
	var lines []string
	for line := range strings.Lines(block) {
		lines = append(lines, clip(strings.TrimSuffix(line, "\n"), width-1)) // a full line would wrap
	}
	var b strings.Builder
	b.WriteString(c.eraseLocked())
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	c.block, c.drawn = b.String()[len(c.eraseLocked()):], len(lines)
	_, _ = io.WriteString(c.out, b.String()) // a closed terminal ends the program by its signal
}

// aboveLocked writes text to w, above the block.
func (c *console) aboveLocked(w io.Writer, text []byte) {
	if c.drawn == 0 {
		_, _ = w.Write(text)
		return
	}
	_, _ = io.WriteString(c.out, c.eraseLocked())
	_, _ = w.Write(text)
	_, _ = io.WriteString(c.out, c.block)
}

// eraseLocked moves to the block's first line and clears from there on.
func (c *console) eraseLocked() string {
	if c.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", c.drawn)
}

func clip(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:max(width, 0)])
	}
	return line
}

// logWriter returns a writer for the log lines of one component: whole lines
// only, so that those of several processes never mix.
func (c *console) logWriter() io.Writer { return &lineWriter{c: c} }

type lineWriter struct {
	mu   sync.Mutex
	c    *console
	rest []byte
}

// maxLogLine bounds what is kept of a line that does not end.
const maxLogLine = 64 << 10

func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	if len(l.rest) > maxLogLine && !bytes.Contains(l.rest, []byte("\n")) {
		l.rest = append(l.rest, '\n')
	}
	if end := bytes.LastIndexByte(l.rest, '\n'); end >= 0 {
		l.c.mu.Lock()
		l.c.aboveLocked(l.c.logs, l.rest[:end+1])
		l.c.mu.Unlock()
		l.rest = append(l.rest[:0], l.rest[end+1:]...)
	}
	return len(p), nil
}

// A meter turns pictures into progress: rates and the time left come from the
// last few seconds.
type meter struct {
	total   int64
	samples []sample
}

type sample struct {
	at      time.Time
	ledgers int64
	events  int64
}

const meterWindow = 5 * time.Second

func (m *meter) add(p picture) {
	m.samples = append(m.samples, sample{p.at, p.sink.Ledgers, p.sink.Events})
	for len(m.samples) > 2 && p.at.Sub(m.samples[1].at) > meterWindow {
		m.samples = m.samples[1:]
	}
}

// rates returns events a second and the time left; left is negative when it
// cannot be known.
func (m *meter) rates() (eventsPerSecond float64, left time.Duration) {
	if len(m.samples) == 0 {
		return 0, -1
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	left = -1
	if last.ledgers >= m.total {
		left = 0
	}
	seconds := last.at.Sub(first.at).Seconds()
	if seconds <= 0 || last.ledgers <= first.ledgers {
		return 0, left
	}
	ledgers := float64(last.ledgers-first.ledgers) / seconds
	return float64(
			last.events-first.events,
		) / seconds, time.Duration(
			float64(max(m.total-last.ledgers, 0)) / ledgers * float64(time.Second),
		)
}

// render draws the block of a terminal.
func (m *meter) render(p picture, width int) string {
	rate, left := m.rates()
	head := fmt.Sprintf(" %s/%s ledgers", thousands(p.sink.Ledgers), thousands(m.total))
	tail := fmt.Sprintf("  %s events  %s/s  %s", thousands(p.sink.Events), thousands(int64(rate)), leftText(left))
	room := min(max(width-1-len(head)-len(tail)-4, 10), 40)
	done := 0
	if m.total > 0 {
		done = int(min(int64(room), int64(room)*p.sink.Ledgers/m.total))
	}
	bar := " [" + strings.Repeat("#", done) + strings.Repeat(".", room-done) + "]"
	return head + bar + tail + "\n " + m.flow(p) + "\n"
}

// line is the progress where there is no terminal.
func (m *meter) line(p picture) string {
	rate, left := m.rates()
	return fmt.Sprintf(
		"%d of %d ledgers, %d events, %.0f events/s, %s, %s",
		p.sink.Ledgers,
		m.total,
		p.sink.Events,
		rate,
		leftText(left),
		m.flow(p),
	)
}

// flow shows the decision and the load of each stage.
func (m *meter) flow(p picture) string {
	var b strings.Builder
	fmt.Fprintf(&b, "fraction %.2f", p.decision.Fraction)
	for _, role := range component.Roles[1:] {
		fmt.Fprintf(&b, "  %s %.0f%%", shortNames[role], 100*p.stages[role].Load)
	}
	if p.decision.Active {
		b.WriteString("  backpressure")
	}
	return b.String()
}

func leftText(left time.Duration) string {
	if left < 0 {
		return "time left unknown"
	}
	return left.Round(time.Second).String() + " left"
}
