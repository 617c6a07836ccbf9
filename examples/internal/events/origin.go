package events

import "github.com/apache/arrow-go/v18/arrow"

// The keys of the schema's metadata that hold an [Origin].
const (
	MetaNetwork = "sluice.network_passphrase"
	MetaSource  = "sluice.source"
)

// Origin is which ledgers events are of. Events of two origins never belong
// into one data set. An empty field is not known.
type Origin struct {
	Network string `json:"network"` // its passphrase
	Source  string `json:"source"`  // the kind of source: sample, datalake, rpc
}

// OriginOf reads the origin from a schema's metadata.
func OriginOf(schema *arrow.Schema) Origin {
	meta := schema.Metadata()
	network, _ := meta.GetValue(MetaNetwork)
	source, _ := meta.GetValue(MetaSource)
	return Origin{network, source}
}

// Schema returns [Schema] with the origin in its metadata.
func (o Origin) Schema() *arrow.Schema { return o.In(Schema) }

// In returns schema with the origin added to its metadata.
func (o Origin) In(schema *arrow.Schema) *arrow.Schema {
	values := schema.Metadata().ToMap()
	values[MetaNetwork], values[MetaSource] = o.Network, o.Source
	return arrow.NewSchema(schema.Fields(), new(arrow.MetadataFrom(values)))
}
