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
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed (Debian package %s), and CI must not skip this test", program, debianPackage)
	}
	t.Skipf("%s is not installed; it comes with the Debian package %s", program, debianPackage)
	return ""
}
