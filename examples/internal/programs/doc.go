// Package programs makes programs of the pipeline's parts: it reads their
// environment, wires them to the component that carries them, and runs them.
// The binaries beside internal run one each; the pipeline runs all of them.
//
// # Concurrency
//
// Each Run is one program; several run in one process as well.
//
// # Errors
//
// A mistake in the environment is a *component.UsageError that names every
// variable that was refused.
//
// # Testing
//
// The runner's tests run all of them together.
package programs

import (
	"slices"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

// All is every program by its role.
func All() map[component.Role]component.Run {
	return map[component.Role]component.Run{
		component.RoleControlPlane: ControlPlane,
		component.RoleSource:       Source,
		component.RoleProcessor:    Processor,
		component.RoleSink:         Sink,
	}
}

// Descriptions read every program's variables, and do nothing else.
func Descriptions() map[component.Role]func(*component.Env) {
	return map[component.Role]func(*component.Env){
		component.RoleControlPlane: DescribeControlPlane,
		component.RoleSource:       DescribeSource,
		component.RoleProcessor:    DescribeProcessor,
		component.RoleSink:         DescribeSink,
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

// usage turns what the environment refused into a usage error.
func usage(env *component.Env) error {
	if err := env.Err(); err != nil {
		return &component.UsageError{Err: err}
	}
	return nil
}

// known is the list of the one upstream, or none where its id is not known.
func known(id string) []string {
	if id == "" {
		return nil
	}
	return []string{id}
}
