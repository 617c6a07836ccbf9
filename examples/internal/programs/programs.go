// Package programs is all programs of the pipeline. Each is a package of its own
// below, which reads its environment, wires its parts to the component that carries
// them, and runs: so the binaries beside internal link what they use and nothing
// else. The pipeline runs all of them.
//
// # Concurrency
//
// Each Run is one program; several run in one process as well.
//
// # Errors
//
// A mistake in the environment is a *component.UsageError that names every
// variable that was rejected.
//
// # Testing
//
// The runner's tests run all of them together.
package programs

import (
	"context"
	"slices"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/programs/controlprogram"
	"github.com/withobsrvr/sluice/examples/internal/programs/processorprogram"
	"github.com/withobsrvr/sluice/examples/internal/programs/sinkprogram"
	"github.com/withobsrvr/sluice/examples/internal/programs/sourceprogram"
)

// All is every program by its role.
func All() map[component.Role]component.Run {
	return map[component.Role]component.Run{
		component.RoleControlPlane: controlprogram.Run,
		component.RoleSource:       sourceprogram.Run,
		component.RoleProcessor:    processorprogram.Run,
		component.RoleSink:         sinkprogram.Run,
	}
}

// Descriptions read every program's variables and return what they say. They do
// nothing else.
func Descriptions() map[component.Role]func(*component.Env) any {
	return map[component.Role]func(*component.Env) any{
		component.RoleControlPlane: controlprogram.Describe,
		component.RoleSource:       sourceprogram.Describe,
		component.RoleProcessor:    processorprogram.Describe,
		component.RoleSink:         sinkprogram.Describe,
	}
}

// Variables are the names of everything that any program reads from its
// environment.
func Variables() []string {
	env := component.NewEnv(func(string) (string, bool) { return "", false })
	for _, describe := range Descriptions() {
		describe(env)
	}
	names := env.Names()
	slices.Sort(names)
	return slices.Compact(names)
}

// OpenLedgers opens the ledgers that a source with this environment serves.
func OpenLedgers(ctx context.Context, lookup func(string) (string, bool)) (ledgers.Source, error) {
	return sourceprogram.OpenLedgers(ctx, lookup)
}
