package mixin

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/alert"
)

// FamilyTable returns the monitor's families as a table in Markdown, for
// docs/monitoring.md. A family without a name in OpenTelemetry is in Prometheus alone.
func FamilyTable() []byte {
	var b bytes.Buffer
	b.WriteString("| Prometheus | OpenTelemetry | unit | kind | labels | what |\n|---|---|---|---|---|---|\n")
	for _, f := range monitor.Families() {
		otel, unit, labels := "-", "-", "-"
		switch {
		case f.OTel == "":
		case f.Kind == monitor.Distribution && !f.Observed:
			otel = "`" + f.OTel + ".bucket`, `.sum`, `.count`"
		default:
			otel = "`" + f.OTel + "`"
		}
		if f.Unit != "" {
			unit = "`" + f.Unit + "`"
		}
		if len(f.Labels) > 0 {
			labels = strings.Join(f.Labels, ", ")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", f.Name, otel, unit, f.Kind, labels, f.Help)
	}
	return b.Bytes()
}

// RuleTable returns rules as a table in Markdown, for docs/monitoring.md: each links
// its heading in the runbook, which a test looks up.
func RuleTable(rules []alert.Rule) []byte {
	var b bytes.Buffer
	b.WriteString("| alert | holds | for |\n|---|---|---|\n")
	for i := range rules {
		r := &rules[i]
		hold := "at once"
		if r.For > 0 {
			hold = strings.TrimSpace(duration(r.For.Round(time.Second)))
		}
		fmt.Fprintf(&b, "| [%s](runbook.md#%s) (%s) | `%s` | %s |\n", r.Name, strings.ToLower(r.Name), r.Severity,
			r.Condition.PromQL(), hold)
	}
	return b.Bytes()
}
