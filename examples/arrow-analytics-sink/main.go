// Command arrow-analytics-sink writes the events of ttp-arrow-processor to files and serves running totals over Arrow Flight.
//
// It is configured by its environment; -h lists the variables.
package main

import (
	"os"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/programs/sinkprogram"
)

func main() {
	os.Exit(
		component.Main(
			"arrow-analytics-sink",
			"writes the events of ttp-arrow-processor to files and serves running totals over Arrow Flight",
			sinkprogram.Run,
			sinkprogram.Describe,
		),
	)
}
