// Package payload reads what a message carries and what it asks its decoder to
// allocate. It decodes nothing and believes nothing: every length and offset comes
// from the peer, and is checked where it is used.
package payload
