// Package page drives the live topology page in a real browser: first over a
// scripted pipeline, then over the reference pipeline's own components.
//
// Screenshots go to the folder artifacts at the repository's root.
package page
