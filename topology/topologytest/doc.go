// Package topologytest holds graphs for tests: a [Script] that plays a pipeline
// through its states, and graphs with [Hostile] texts. It imports no test library.
package topologytest
