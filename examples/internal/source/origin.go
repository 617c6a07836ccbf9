package source

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// schemaOf is [Schema] with the kind of source beside the network, so that
// whoever keeps what comes of the ledgers can tell origins apart.
func schemaOf(info ledgers.Info) *arrow.Schema {
	return events.Origin{Network: info.Passphrase, Source: info.Kind}.In(Schema(info.Passphrase))
}
