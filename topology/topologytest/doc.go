// Package topologytest holds graphs for tests: a [Script] that plays a pipeline
// through its states, graphs with [Hostile] texts, and [RunSource] for sources of
// your own. It imports no test library but testing.
package topologytest
