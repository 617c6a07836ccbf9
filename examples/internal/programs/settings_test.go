package programs_test

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/component/componenttest"
	"github.com/withobsrvr/sluice/examples/internal/programs"
	"github.com/withobsrvr/sluice/examples/internal/runner"
)

var update = flag.Bool("update", false, "write docs/settings.md")

const page = "../../../docs/settings.md"

// A setting is one variable with the programs that read it.
type setting struct {
	component.Variable
	readers  []string
	defaults []string
}

func settings() (all []*setting) {
	by := map[string]*setting{}
	for _, role := range component.Roles {
		env := component.NewEnv(process(nil).Lookup)
		programs.Descriptions()[role](env)
		for _, v := range env.Variables() {
			s := by[v.Name]
			if s == nil {
				s = &setting{Variable: v}
				by[v.Name] = s
				all = append(all, s)
			}
			s.readers = append(s.readers, shortNames[role])
			if !slices.Contains(s.defaults, v.Default) {
				s.defaults = append(s.defaults, v.Default)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *setting) int { return strings.Compare(a.Name, b.Name) })
	return all
}

var shortNames = map[component.Role]string{
	component.RoleControlPlane: "control plane", component.RoleSource: "source", component.RoleProcessor: "processor",
	component.RoleSink: "sink",
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// The tables of the page are made from what the programs read.
func TestThePageListsEverySetting(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Settings of the reference pipeline

<!-- Written by: go test ./internal/programs -run TestThePageListsEverySetting -update, in the folder examples. -->

Flags are those of ` + "`go run ./examples/pipeline`" + `; each has a variable. A flag wins over its variable. Every other variable is read by the programs that the table names; the
pipeline hands its environment to all of them. A variable that is set but empty counts as unset. A value that is not accepted ends the program with status 2 before it opens anything, and all such
values are named at once.

## The pipeline

| flag | variable | default | |
|---|---|---|---|
`)
	runner.VisitFlags(func(f *flag.Flag, variable string) {
		name, help := flag.UnquoteUsage(f)
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(strings.TrimSpace("-"+f.Name+" "+name)), code(variable),
			code(f.DefValue), cell(help))
	})
	b.WriteString("\n## The programs\n\n| variable | read by | default | accepted | |\n|---|---|---|---|---|\n")
	for _, s := range settings() {
		readers := strings.Join(s.readers, ", ")
		if len(s.readers) == len(component.Roles) {
			readers = "all"
		}
		var defaults []string
		for _, d := range s.defaults {
			defaults = append(defaults, code(d))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.Name, readers, strings.Join(defaults, ", "), cell(s.Accepted),
			cell(s.Help))
	}
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(b.String()), 0o644))
	}
	have, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(have))
}

// other is an accepted value for each variable that is not its default.
func other(t *testing.T) map[string]string {
	files := componenttest.NewAuthority(t).Issue(t, t.TempDir(), "x")
	token := secretFile(t, "token-0123456789")
	return map[string]string{
		"ADVERTISE_HOST": "source.example.com", "ALLOW_PLAINTEXT": "true", "AUTH_ADMINS": "operations,security",
		"AUTH_ADMIN_TOKEN_FILE": token,
		"AUTH_TOKEN_FILE":       token, "CONNECTION_POOL_HEALTH_CHECK_INTERVAL": "7s", "CONNECTION_POOL_IDLE_TIMEOUT": "7s",
		"CONNECTION_POOL_LOAD_BALANCING": "false", "CONNECTION_POOL_MAX_CONNECTIONS": "7",
		"CONNECTION_POOL_MIN_CONNECTIONS": "7",
		"DEAD_LETTER_DIR":                 "x", "DATALAKE_ENDPOINT_URL": "https://s3.example.com", "DATALAKE_FILES_PER_PARTITION": "7",
		"DATALAKE_LEDGERS_PER_FILE": "7",
		"DATALAKE_PATH":             "lake", "DATALAKE_REGION": "us-east-2", "DATALAKE_TYPE": "s3", "ENABLE_FLOWCTL": "1",
		"DRAIN_GRACE": "7s", "END_LEDGER": "7", "EXIT_WHEN_DONE": "true",
		"FILE_AGE": "7s", "FILE_BYTES": "7", "FLIGHT_PORT": "7", "FLOWCTL_COMPONENT_ID": "x",
		"FLOWCTL_ENDPOINT":           "127.0.0.1:7",
		"FLOWCTL_HEARTBEAT_INTERVAL": "7s", "FLOW_CONTROL_BACKPRESSURE_THRESHOLD": "0.7",
		"FLOW_CONTROL_RECOVERY_THRESHOLD": "0.7", "HEALTH_PORT": "7",
		"LEDGER_COUNT": "7", "LEDGER_SOURCE": "datalake", "LISTEN_HOST": "127.0.0.1", "LOG_FORMAT": "json",
		"LOG_LEVEL": "warn", "MONITORING_INTERVAL": "7s",
		"NETWORK_PASSPHRASE": "Test SDF Network ; September 2015", "OUT_DIR": "x", "OUT_FORMAT": "csv",
		"PROCESSOR_ENDPOINT": "localhost:7", "PROCESSOR_WORKERS": "7",
		"ROW_GROUP_BYTES": "70000", "RPC_URL": "https://rpc.example.com", "SINK_DELAY": "7s", "SINK_DELAY_FILE": "x",
		"SOURCE_ENDPOINT":   "localhost:7",
		"STAGE_MAX_BATCHES": "7", "STAGE_MAX_BYTES": "7000000", "STALL_TIMEOUT": "7s", "START_LEDGER": "7",
		"TLS_CA": files.CA, "TLS_CERTIFICATE": files.Certificate, "TLS_KEY": files.Key,
	}
}

// needs are variables that another one needs.
var needs = map[string][]string{
	"TLS_CERTIFICATE": {"TLS_KEY"}, "TLS_KEY": {"TLS_CERTIFICATE"}, "TLS_CA": {"TLS_CERTIFICATE", "TLS_KEY"},
	"AUTH_ADMINS": {"TLS_CERTIFICATE", "TLS_KEY", "TLS_CA"}, "LEDGER_SOURCE": {"DATALAKE_PATH"},
	"START_LEDGER": {"LEDGER_SOURCE", "DATALAKE_PATH"}, "END_LEDGER": {"LEDGER_SOURCE", "DATALAKE_PATH"},
}

// malformed is a value that no variable but a free text accepts, nor one that
// names files.
const malformed = "\u2060 abc,,"

// Every variable changes what its program is told, and none but a free text takes
// anything.
func TestEverySettingHasAnEffectAndRejectsTheMalformed(t *testing.T) {
	others := other(t)
	for _, s := range settings() {
		value, ok := others[s.Name]
		require.True(t, ok, "add another value of %s to this test", s.Name)
		for role, describe := range programs.Descriptions() {
			if !slices.Contains(s.readers, shortNames[role]) {
				continue
			}
			read := func(pairs map[string]string) (any, error) {
				env := component.NewEnv(process(pairs).Lookup)
				cfg := describe(env)
				return cfg, env.Err()
			}
			base := map[string]string{}
			for _, needed := range needs[s.Name] {
				base[needed] = others[needed]
			}
			without, _ := read(base)
			base[s.Name] = value
			with, err := read(base)
			require.NoError(t, err, s.Name)
			require.False(t, reflect.DeepEqual(without, with), "%s has no effect in %s", s.Name, role)
			if !s.Free() {
				base[s.Name] = malformed
				_, err = read(base)
				require.ErrorContains(t, err, s.Name, role)
			}
		}
	}
	require.Len(t, settings(), len(others))
}
