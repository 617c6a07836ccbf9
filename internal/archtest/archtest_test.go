package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/withobsrvr/sluice"

// A rule says what the packages below dir may import beyond the standard
// library. The longest matching dir decides. An entry ending in "/..." allows
// everything below it.
type rule struct {
	dir   string
	allow []string
	why   string
}

const (
	grpcAll  = "google.golang.org/grpc/..."
	protoAll = "google.golang.org/protobuf/..."
	arrowAll = "github.com/apache/arrow-go/v18/..."
	testify  = "github.com/stretchr/testify/..."
)

var rules = []rule{
	{".", nil, "the root holds an overview and an example, and nothing to import"},
	{"flowcontrol", nil, "the gate is embedded everywhere, so it costs its users no dependency at all"},
	{"flowcontrol/flowcontroltest", []string{module + "/flowcontrol"}, "users import the fakes in their own tests"},
	{
		"backpressure",
		[]string{module + "/topology"},
		"the decision is pure: it meets throttlers through a one-method interface, and shares the nouns of a pipeline",
	},
	{
		"backpressure/backpressuretest",
		[]string{module + "/backpressure/...", grpcAll},
		"users import the fakes in their own tests; the in-memory control plane speaks gRPC over bufconn",
	},
	{
		"backpressure/controlplane",
		[]string{module + "/backpressure", module + "/topology", grpcAll},
		"the nouns that both ends of the wire share",
	},
	{
		"backpressure/controlplane/agent",
		[]string{module + "/backpressure/...", module + "/topology", grpcAll, protoAll},
		"a component's end of the wire; TestTheAgentLinksNoServer says what it must not link",
	},
	{
		"backpressure/controlplane/server",
		[]string{
			module + "/backpressure/...", module + "/topology", grpcAll, protoAll, "go.etcd.io/bbolt",
		},
		"the control plane's end: the decision across processes, the graph of what registered, and an embedded store",
	},
	{
		"backpressure/controlplane/internal/convert",
		[]string{
			module + "/backpressure/...", module + "/topology", grpcAll, protoAll,
		},
		"the one place where the wire's messages become nouns",
	},
	{
		"backpressure/internal/wire",
		[]string{module + "/backpressure/internal/wire", grpcAll, protoAll},
		"messages and nothing else",
	},
	{
		"topology", nil,
		"the nouns of a pipeline are shared by all, so they cost their users nothing; TestTheNounsAreLight holds " +
			"them without net/http",
	},
	{
		"topology/page",
		[]string{module + "/topology", module + "/topology/internal/..."},
		"the graph for people is served by anything, also where there is no gRPC",
	},
	{"topology/internal", nil, "edges by number, and words: the nouns and their drawings share them"},
	{
		"topology/topologytest",
		[]string{module + "/topology", module + "/topology/page"},
		"users import the fakes in their own tests",
	},
	{"connpool", []string{grpcAll}, "a pool is a grpc.ClientConnInterface and nothing more"},
	{"connpool/connpooltest", []string{module + "/connpool", grpcAll, protoAll}, "misbehaving servers on bufconn"},
	{
		"interceptors",
		[]string{
			module + "/flowcontrol", grpcAll, protoAll, "google.golang.org/genproto/googleapis/rpc/errdetails",
			"go.opentelemetry.io/otel/trace", "go.opentelemetry.io/otel/attribute",
		},
		"FlightData is read through its getters, so that any Flight code generation works and a plain gRPC user " +
			"links no Arrow",
	},
	{
		"interceptors/interceptorstest",
		[]string{
			module + "/interceptors", module + "/flowcontrol", grpcAll, protoAll, arrowAll,
		},
		"a Flight pipeline on bufconn",
	},
	{
		"monitor",
		[]string{
			module + "/flowcontrol", module + "/backpressure", module + "/connpool", module + "/interceptors",
			module + "/topology", module + "/internal/rate", grpcAll,
		},
		"it reads the packages that it watches, and knows neither faces, rules nor reports",
	},
	{"monitor/alert", []string{module + "/monitor"}, "rules read the family table, so they know nothing that is watched"},
	{
		"monitor/health",
		[]string{module + "/monitor", module + "/monitor/alert", module + "/topology", grpcAll},
		"the report stands on snapshots and alerts; grpc is for its health service",
	},
	{
		"monitor/monitortest",
		[]string{module + "/monitor", module + "/monitor/alert", module + "/topology"},
		"users import the fakes in their own tests",
	},
	{
		"monitor/prommonitor",
		[]string{
			module + "/monitor", "github.com/prometheus/client_golang/...",
			"github.com/prometheus/client_model/...",
		},
		"one face of the family table",
	},
	{
		"monitor/otelmonitor",
		[]string{
			module + "/monitor", "go.opentelemetry.io/otel/metric/...", "go.opentelemetry.io/otel/attribute",
			"go.opentelemetry.io/otel",
		},
		"the other face, on the OTel API alone: which SDK runs is its user's choice",
	},
	{"monitor/mixin", []string{module + "/monitor/..."}, "rules and dashboards are generated from the monitor's tables"},
	{
		"cmd",
		[]string{module + "/...", grpcAll, protoAll, "github.com/prometheus/client_golang/..."},
		"a program wires together what it needs, with no new dependency",
	},
	{"internal/archtest", nil, "reads files"},
	{"internal/docstest", nil, "reads files"},
	{"internal/rate", nil, "one window for the rates of all who show one"},
	{"internal/testenv", nil, "reads the machine"},
}

// testOnly may be imported by _test.go files of the root module, wherever they are.
var testOnly = []string{
	module + "/...", testify, grpcAll, protoAll, arrowAll,
	"google.golang.org/genproto/googleapis/rpc/errdetails",
	"go.opentelemetry.io/otel/...", // the SDK proves the API's face
	"github.com/prometheus/...",
	"go.yaml.in/yaml/v3",
}

// pure packages keep even their tests free of transports: they import only the
// standard library, testify and this module.
var pure = []string{"flowcontrol", "backpressure", "topology"}

func TestImportDirection(t *testing.T) {
	root := repositoryRoot(t)
	seen := map[string]bool{}
	for file, imports := range goFiles(t, root) {
		dir := path.Dir(file)
		r, ok := ruleFor(dir)
		if !ok {
			t.Errorf("%s: no rule for package %s: add one to the table, with its reason", file, dir)
			continue
		}
		seen[r.dir] = true
		allowed := append([]string{module + "/" + dir + "/..."}, r.allow...)
		if strings.HasSuffix(file, "_test.go") {
			allowed = append(allowed, testOnly...)
			if slices.Contains(pure, dir) {
				allowed = append(slices.Clone(r.allow), testify, module+"/...")
			}
		}
		for _, imported := range imports {
			if !standard(imported) && !matches(allowed, imported) {
				t.Errorf("%s imports %s, but %s: %s", file, imported, r.dir, r.why)
			}
		}
	}
	for _, r := range rules {
		if !seen[r.dir] {
			t.Errorf("the rule for %s matches no file: delete it", r.dir)
		}
	}
}

// TestFakesStayLight proves that no package that users import in their tests
// links testify: it would land in their go.sum.
func TestFakesStayLight(t *testing.T) {
	for file, imports := range goFiles(t, repositoryRoot(t)) {
		if !strings.HasSuffix(path.Dir(file), "test") || strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, imported := range imports {
			require.Falsef(t, matches([]string{testify}, imported), "%s imports %s", file, imported)
		}
	}
}

// TestStellarSDKLivesInExamplesOnly proves that no `go get` user inherits it.
func TestStellarSDKLivesInExamplesOnly(t *testing.T) {
	gomod, err := os.ReadFile(filepath.Join(repositoryRoot(t), "go.mod"))
	require.NoError(t, err)
	require.NotContains(t, string(gomod), "stellar")
}

// TestTheAgentLinksNoServer proves that a component that runs an agent links
// neither the control plane's registry and graph nor an HTTP page.
func TestTheAgentLinksNoServer(t *testing.T) {
	linked := dependencies(t, module+"/backpressure/controlplane/agent")
	require.Contains(t, linked, module+"/backpressure")
	require.NotContains(t, linked, module+"/backpressure/controlplane/server")
	for _, imported := range linked {
		for _, tree := range []string{"/monitor", "/topology/page", "/cmd/"} {
			require.False(t, strings.HasPrefix(imported, module+tree), imported)
		}
	}
}

// TestTheNounsAreLight proves that a user of the nouns links no HTTP server.
func TestTheNounsAreLight(t *testing.T) {
	for _, imported := range dependencies(t, module+"/topology") {
		require.NotEqual(t, "net/http", imported)
		require.NotEqual(t, "html/template", imported)
	}
}

// TestTheMonitorNeedsNoControlPlane proves that a process that is only watched
// links no end of the control plane's wire.
func TestTheMonitorNeedsNoControlPlane(t *testing.T) {
	for _, imported := range dependencies(t, module+"/monitor") {
		require.False(t, strings.HasPrefix(imported, module+"/backpressure/"), imported)
	}
}

// dependencies are what a program links that imports the package.
func dependencies(t *testing.T, imported string) []string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", imported)
	list.Dir, list.Stderr = repositoryRoot(t), os.Stderr
	list.Env = append(os.Environ(), "GOWORK=off")
	out, err := list.Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}

func ruleFor(dir string) (best rule, ok bool) {
	for _, r := range rules {
		if (dir == r.dir || r.dir != "." && strings.HasPrefix(dir, r.dir+"/")) && len(r.dir) >= len(best.dir) {
			best, ok = r, true
		}
	}
	return best, ok
}

func matches(patterns []string, imported string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		base, all := strings.CutSuffix(p, "/...")
		return imported == base || all && strings.HasPrefix(imported, base+"/")
	})
}

func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// goFiles returns the imports of each Go file of the root module, by path from
// the root. Nested modules answer for themselves.
func goFiles(t *testing.T, root string) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != root && (nestedModule(name) || skipped(entry.Name())) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		imports := []string{}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, imported)
		}
		files[filepath.ToSlash(relative)] = imports
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

func nestedModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func skipped(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata"
}

func repositoryRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	return root
}
