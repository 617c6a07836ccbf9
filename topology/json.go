package topology

import (
	"encoding/json"
	"fmt"
	"io"
)

// WriteJSON writes the graph as one line of JSON. It holds no NaN, whatever
// the graph holds.
func (g *Graph) WriteJSON(w io.Writer) error {
	return json.NewEncoder(w).Encode(g.Normalize())
}

// ReadJSON reads what [Graph.WriteJSON] wrote. What comes back is normalized; a
// newer schema is an error, and so is anything over 16 MiB.
func ReadJSON(r io.Reader) (*Graph, error) {
	const most = 16 << 20
	var g Graph
	if err := json.NewDecoder(io.LimitReader(r, most)).Decode(&g); err != nil {
		return nil, fmt.Errorf("topology: read JSON: %w", err)
	}
	if g.Schema > Schema || g.Schema < 1 {
		return nil, &Error{Field: "schema", Text: fmt.Sprintf("is %d, this program reads 1 to %d", g.Schema, Schema)}
	}
	return g.Normalize(), nil
}
