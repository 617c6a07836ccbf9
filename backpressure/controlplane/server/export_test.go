package server

// Kept is what the registry remembers for accounting, for the tests outside.
type Kept struct{ Bytes, Peers, EventTypes, Pipelines int }

func (s *Server) Kept() Kept {
	r := s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	return Kept{Bytes: r.size, Peers: len(r.perPeer), EventTypes: len(r.producers), Pipelines: len(r.perPipeline)}
}
