package mixin

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/withobsrvr/sluice/monitor/alert"
)

const generated = "# Generated from the rule table of package monitor. Do not edit: change the table.\n"

// Alerts returns rules as a rules file for Prometheus 2.42 or newer, which is the
// first with keep_firing_for. Disabled rules are left out. Texts are quoted as Go
// does it, which YAML's double quotes accept.
func Alerts(rules []alert.Rule) []byte {
	var b bytes.Buffer
	b.WriteString(generated + "groups:\n  - name: flowctl\n    rules:\n")
	for i := range rules {
		r := &rules[i]
		if r.Disabled {
			continue
		}
		fmt.Fprintf(&b, "      - alert: %s\n        expr: %s\n", r.Name, strconv.Quote(r.Condition.PromQL()))
		if r.For > 0 {
			fmt.Fprintf(&b, "        for: %s\n", duration(r.For))
		}
		if r.KeepFiring > 0 {
			fmt.Fprintf(&b, "        keep_firing_for: %s\n", duration(r.KeepFiring))
		}
		fmt.Fprintf(&b, "        labels:\n          severity: %s\n", r.Severity)
		for _, name := range slices.Sorted(maps.Keys(r.Labels)) {
			fmt.Fprintf(&b, "          %s: %s\n", name, strconv.Quote(r.Labels[name]))
		}
		b.WriteString("        annotations:\n")
		fmt.Fprintf(&b, "          summary: %s\n", strconv.Quote(r.Summary))
		fmt.Fprintf(&b, "          description: %s\n", strconv.Quote(r.Description))
		fmt.Fprintf(&b, "          runbook_url: %s\n", strconv.Quote(r.RunbookURL()))
	}
	return b.Bytes()
}

// Inhibitions returns the inhibit_rules of Alertmanager's configuration: they
// keep an alert back while one that says the same and more fires. In process the
// engine does the same, see [alert.Alert.Inhibited].
func Inhibitions(rules []alert.Rule) []byte {
	var b bytes.Buffer
	b.WriteString(generated + "inhibit_rules:\n")
	for i := range rules {
		r := &rules[i]
		if r.Disabled || len(r.Inhibits) == 0 {
			continue
		}
		fmt.Fprintf(&b, "  - source_matchers: ['alertname = %q']\n", r.Name)
		fmt.Fprintf(&b, "    target_matchers: ['alertname =~ %q']\n", strings.Join(r.Inhibits, "|"))
		if len(r.InhibitEqual) > 0 {
			fmt.Fprintf(&b, "    equal: [%s]\n", strings.Join(r.InhibitEqual, ", "))
		}
	}
	return b.Bytes()
}

// duration writes d as Prometheus reads it: 90s is 1m30s, and 2m0s is 2m.
func duration(d time.Duration) string {
	if d%time.Second != 0 {
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	text := d.String() // 2m0s
	text = strings.TrimSuffix(text, "m0s") + map[bool]string{true: "m"}[strings.HasSuffix(text, "m0s")]
	if whole, ok := strings.CutSuffix(text, "h0m"); ok {
		text = whole + "h"
	}
	return text
}
