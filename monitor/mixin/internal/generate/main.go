// Command generate writes the files of package mixin. It runs in that
// package's folder, by go generate.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/withobsrvr/sluice/monitor/alert"
	"github.com/withobsrvr/sluice/monitor/mixin"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run() error {
	rules := alert.DefaultRules()
	files := map[string][]byte{"alerts.yaml": mixin.Alerts(rules), "alertmanager.yaml": mixin.Inhibitions(rules)}
	for name, text := range mixin.Dashboards() {
		files[filepath.Join("dashboards", name)] = text
	}
	if err := os.MkdirAll("dashboards", 0o755); err != nil {
		return err
	}
	if err := document(filepath.Join("..", "..", "docs", "monitoring.md")); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// document renews the tables of the docs, between their markers.
func document(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for part, table := range map[string][]byte{
		"families": mixin.FamilyTable(),
		"alerts":   mixin.RuleTable(alert.DefaultRules()),
	} {
		between := regexp.MustCompile(`(?s)(<!-- ` + part + `: [^\n]* -->\n).*(<!-- /` + part + ` -->)`)
		text = between.ReplaceAll(text, append(append([]byte("${1}"), table...), "${2}"...))
	}
	return os.WriteFile(name, text, 0o644)
}
