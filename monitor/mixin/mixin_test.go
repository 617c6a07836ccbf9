package mixin_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/internal/testenv"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/alert"
	"github.com/withobsrvr/sluice/monitor/mixin"
)

func TestFilesAreGenerated(t *testing.T) {
	rules := alert.DefaultRules()
	files := map[string][]byte{"alerts.yaml": mixin.Alerts(rules), "alertmanager.yaml": mixin.Inhibitions(rules)}
	for name, text := range mixin.Dashboards() {
		files["dashboards/"+name] = text
	}
	for name, want := range files {
		have, err := os.ReadFile(name)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, have), "%s is not what the tables say: run go generate", name)
	}
	found, err := filepath.Glob("dashboards/*.json")
	require.NoError(t, err)
	require.Len(t, found, len(mixin.Dashboards()))
}

func TestPromtoolAcceptsTheRules(t *testing.T) {
	promtool := testenv.Require(t, "promtool", "prometheus")
	out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint=all", "--lint-fatal",
		"alerts.yaml").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "SUCCESS")
}

// TestAmtoolAcceptsTheInhibitions checks the file inside a whole configuration.
func TestAmtoolAcceptsTheInhibitions(t *testing.T) {
	amtool := testenv.Require(t, "amtool", "prometheus-alertmanager")
	text := "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n" + string(mixin.Inhibitions(alert.DefaultRules()))
	file := filepath.Join(t.TempDir(), "alertmanager.yml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	out, err := exec.CommandContext(t.Context(), amtool, "check-config", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// documented returns the queries of the table in docs/monitoring.md.
func documented(t *testing.T) (queries []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/monitoring.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "| question | query |\n|---|---|\n")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		queries = append(queries, strings.Split(line, "`")[1])
	}
	require.GreaterOrEqual(t, len(queries), 6)
	return queries
}

// TestPromtoolAcceptsEveryQuery parses the queries of each dashboard and of the
// docs, as recording rules.
func TestPromtoolAcceptsEveryQuery(t *testing.T) {
	promtool := testenv.Require(t, "promtool", "prometheus")
	var b strings.Builder
	b.WriteString("groups:\n  - name: queries\n    rules:\n")
	queries := slices.Concat(mixin.Queries(), documented(t))
	for i, q := range queries {
		fmt.Fprintf(&b, "      - record: query:%d\n        expr: %q\n", i, strings.ReplaceAll(q, "$__rate_interval", "1m"))
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o600))
	out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), fmt.Sprintf("%d rules found", len(queries)))
}

var (
	metric  = regexp.MustCompile(`flowctl_[a-z_]+`)
	ranged  = regexp.MustCompile(`(?:rate|increase)\((flowctl_[a-z_]+)`)
	grouped = regexp.MustCompile(`by \(([^)]*)\)`)
	matcher = regexp.MustCompile(`([a-z_]+)=~`)
	legend  = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
)

// TestQueriesKnowTheTable: every metric is a family, rates are of counters, and
// labels exist.
func TestQueriesKnowTheTable(t *testing.T) {
	used := map[string]bool{}
	known := func(expr string) {
		for _, name := range metric.FindAllString(expr, -1) {
			require.NotNil(t, monitor.FamilyOf(name), "%s in %s", name, expr)
		}
		for _, found := range ranged.FindAllStringSubmatch(expr, -1) {
			f := monitor.FamilyOf(found[1])
			require.True(t, f.Kind == monitor.Counter || f.Kind == monitor.Distribution, "%s takes the rate of a gauge", expr)
		}
	}
	for _, expr := range documented(t) {
		known(expr)
	}
	check := func(expr, text string) {
		known(expr)
		labels := map[string]bool{"le": true}
		for _, name := range metric.FindAllString(expr, -1) {
			f := monitor.FamilyOf(name)
			require.False(t, f.Legacy, "%s uses a deprecated name", expr)
			used[f.Name] = true
			for _, l := range f.Labels {
				labels[l] = true
			}
		}
		var names []string
		for _, found := range grouped.FindAllStringSubmatch(expr, -1) {
			names = append(names, strings.Split(found[1], ", ")...)
		}
		for _, found := range slices.Concat(matcher.FindAllStringSubmatch(expr, -1), legend.FindAllStringSubmatch(text, -1)) {
			names = append(names, found[1])
		}
		for _, name := range names {
			require.True(t, labels[name], "no label %s for %s", name, expr)
		}
	}
	for name, text := range mixin.Dashboards() {
		var d struct {
			UID, Title, Description string
			SchemaVersion           int
			Panels                  []struct {
				ID                 int
				Title, Description string
				FieldConfig        struct{ Defaults struct{ Unit string } }
				Targets            []struct{ Expr, LegendFormat string }
			}
		}
		require.NoError(t, json.Unmarshal(text, &d))
		require.NotEmpty(t, d.UID+d.Title+d.Description)
		ids := map[int]bool{}
		for _, p := range d.Panels {
			require.NotEmpty(t, p.Title, name)
			require.NotEmpty(t, p.Description, "%s: %s", name, p.Title)
			require.NotEmpty(t, p.FieldConfig.Defaults.Unit, "%s: %s", name, p.Title)
			require.NotEmpty(t, p.Targets)
			require.False(t, ids[p.ID])
			ids[p.ID] = true
			for _, q := range p.Targets {
				check(q.Expr, q.LegendFormat)
			}
		}
	}
	var unused []string
	for _, f := range monitor.Families() {
		if !used[f.Name] && !f.Legacy {
			unused = append(unused, f.Name)
		}
	}
	require.ElementsMatch(t, []string{"flowctl_pipeline_worst_load_ratio"}, unused, "families that no dashboard shows")
}

// TestDocsHaveTheTables: what docs/monitoring.md lists is what there is.
func TestDocsHaveTheTables(t *testing.T) {
	text, err := os.ReadFile("../../docs/monitoring.md")
	require.NoError(t, err)
	require.Contains(t, string(text), "-->\n"+string(mixin.FamilyTable())+"<!-- /families -->", "run go generate")
	require.Contains(t, string(text), "-->\n"+string(mixin.RuleTable(alert.DefaultRules()))+
		"<!-- /alerts -->", "run go generate")
}

// TestRunbook: every alert has its heading, and every alert's heading a rule.
func TestRunbook(t *testing.T) {
	text, err := os.ReadFile("../../docs/runbook.md")
	require.NoError(t, err)
	headings := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^## ([A-Z][A-Za-z]+)$`).FindAllStringSubmatch(string(text), -1) {
		headings[strings.ToLower(found[1])] = true
	}
	for _, r := range alert.DefaultRules() {
		_, anchor, ok := strings.Cut(r.RunbookURL(), "#")
		require.True(t, ok)
		require.True(t, headings[anchor], "docs/runbook.md has no heading for %s", r.Name)
		delete(headings, anchor)
	}
	require.Empty(t, slices.Collect(maps.Keys(headings)))
}
