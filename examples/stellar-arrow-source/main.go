// Command stellar-arrow-source serves Stellar ledgers over Arrow Flight.
//
// It is configured by its environment; -h lists the variables.
package main

import (
	"os"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/programs/sourceprogram"
)

func main() {
	os.Exit(
		component.Main(
			"stellar-arrow-source",
			"serves Stellar ledgers over Arrow Flight",
			sourceprogram.Run,
			sourceprogram.Describe,
		),
	)
}
