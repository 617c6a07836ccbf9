// Package topology shows a pipeline: its components, who feeds whom, how loaded
// and how healthy each is, and which one holds the others up.
package topology
