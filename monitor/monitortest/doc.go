// Package monitortest has what tests of a program that uses package monitor
// need: sources that say what they are told, and a recorder of alerts.
//
// # Concurrency
//
// Everything here may be used from any goroutine.
//
// # Errors
//
// Nothing here fails.
//
// # Testing
//
// It imports no test library.
package monitortest
