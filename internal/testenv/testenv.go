// Package testenv says what a test needs of the machine it runs on.
package testenv

import (
	"os"
	"os/exec"
	"testing"
)

// Require returns the path of program. Where the program is missing the test is
// skipped, naming the Debian package that has it; in CI (the environment
// variable CI is set) it fails instead, because there green must mean run.
func Require(t testing.TB, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	Skip(t, program+" is not installed; it comes with the Debian package "+debianPackage)
	return ""
}

// Skip skips the test, but in CI it fails it.
func Skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s, and CI must not skip this test", why)
	}
	t.Skip(why)
}
