// Package sluicepb is Sluice's own control-plane service: load up, signals down.
package sluicepb
