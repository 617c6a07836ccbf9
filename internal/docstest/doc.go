// Package docstest proves what the documentation says about the code: its Go
// blocks are excerpts of compiled files, and its links lead somewhere.
package docstest
