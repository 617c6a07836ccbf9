// Command ttp-arrow-processor extracts token-transfer events from the ledgers of stellar-arrow-source and serves them over Arrow Flight.
//
// It is configured by its environment; -h lists the variables.
package main

import (
	"os"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/programs/processorprogram"
)

func main() {
	os.Exit(
		component.Main(
			"ttp-arrow-processor",
			"extracts token-transfer events from the ledgers of stellar-arrow-source and serves them over Arrow Flight",
			processorprogram.Run,
			processorprogram.Describe,
		),
	)
}
