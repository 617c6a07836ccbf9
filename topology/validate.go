package topology

import (
	"fmt"
	"net"
	"strings"
)

func (n *Node) validate() error {
	switch {
	case n.ID == "":
		return &Error{Field: "ID", Text: "is empty"}
	case len(n.ID) > maxIDLength:
		return tooLong(n.ID, "ID", len(n.ID))
	case len(n.Name) > maxIDLength:
		return tooLong(n.ID, "Name", len(n.Name))
	case len(n.Endpoint) > maxIDLength:
		return tooLong(n.ID, "Endpoint", len(n.Endpoint))
	}
	for _, f := range []struct {
		name   string
		length int
	}{
		{"InputEventTypes", len(n.InputEventTypes)},
		{"OutputEventTypes", len(n.OutputEventTypes)},
		{"Upstreams", len(n.Upstreams)},
		{"Metadata", len(n.Metadata)},
	} {
		if f.length > maxListLength {
			return &Error{ID: n.ID, Field: f.name, Text: fmt.Sprintf("has %d entries, at most %d are allowed", f.length,
				maxListLength)}
		}
	}
	for _, up := range n.Upstreams {
		if up == "" || len(up) > maxIDLength {
			return &Error{ID: n.ID, Field: "Upstreams", Text: "has an id that is empty or too long"}
		}
	}
	return nil
}

func (e *Edge) validate() error {
	id := e.From + " -> " + e.To
	switch {
	case e.To == "":
		return &Error{ID: id, Field: "To", Text: "is empty"}
	case e.From == "" && e.Endpoint == "":
		return &Error{ID: id, Field: "From", Text: "is empty, and so is Endpoint"}
	case len(e.From) > maxIDLength || len(e.To) > maxIDLength || len(e.Endpoint) > maxIDLength:
		return &Error{ID: "edge", Field: "From, To, Endpoint", Text: fmt.Sprintf("are longer than %d bytes", maxIDLength)}
	case len(e.EventTypes) > maxListLength:
		return &Error{ID: id, Field: "EventTypes", Text: fmt.Sprintf("has %d entries, at most %d are allowed",
			len(e.EventTypes), maxListLength)}
	}
	return nil
}

func tooLong(id, field string, length int) error {
	return &Error{ID: id[:min(len(id), 32)], Field: field, Text: fmt.Sprintf("has %d bytes, at most %d are allowed",
		length, maxIDLength)}
}

// Endpoint returns the one form of a gRPC target by which endpoints are
// compared: without a resolver's scheme, every name of this machine's loopback
// as "localhost", and no host (a listen address) as that too.
func Endpoint(target string) string {
	if _, rest, ok := strings.Cut(target, "://"); ok {
		target = rest[strings.LastIndexByte(rest, '/')+1:]
	} else if scheme, rest, ok := strings.Cut(target, ":"); ok && (scheme == "dns" || scheme == "passthrough") {
		target = strings.TrimLeft(rest, "/")
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return strings.ToLower(target)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		host = "localhost"
	}
	return strings.ToLower(host) + ":" + port
}
