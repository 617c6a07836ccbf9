// Package archtest proves the import direction of the repository.
//
// The rules stand as a table in the test, each with its reason, so that a new
// import that breaks one fails with the sentence that says why it matters. It
// reads the imports of every file, whatever its build tags, and needs neither a
// build nor the network.
package archtest
