// Package docstest proves what the documentation says about the code: its Go
// blocks are excerpts of compiled files, its links lead somewhere, and the names
// that it writes exist.
package docstest
