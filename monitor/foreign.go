package monitor

// Foreign says that the service has no metrics endpoint of its own, as a component
// of another team that only sends heartbeats: what it reports is exported here,
// also with [LocalServices].
func (d *Draft) Foreign(id string) { d.Service(id).foreign = true }
