package ledgers

import (
	"encoding/json"
	"fmt"
)

// FlightName is the name of the Flight that carries raw ledgers.
const FlightName = "ledgers"

// maxTicket bounds a ticket; the longest that Marshal writes is far below.
const maxTicket = 256

// Ticket names a range of ledgers of one Flight. Its text is JSON, so that any
// Flight client can write one by hand.
type Ticket struct {
	Flight string
	Range  Range
}

// wireTicket keeps the JSON apart from Ticket, whose fields are nested. The
// pointers tell a missing number from a zero.
type wireTicket struct {
	Flight string  `json:"flight"`
	Start  *uint32 `json:"start"`
	End    *uint32 `json:"end"`
}

// Marshal returns the ticket's bytes, for example
// {"flight":"ledgers","start":53312000,"end":53312199}. Both ends belong to it.
func (t Ticket) Marshal() []byte {
	b, err := json.Marshal(wireTicket{t.Flight, &t.Range.First, &t.Range.Last})
	if err != nil {
		panic("ledgers: " + err.Error()) // a string and two numbers: cannot fail
	}
	return b
}

// ParseTicket reads a ticket. It rejects what is not exactly one, and an empty
// range; whether the ledgers exist is for the server to say.
func ParseTicket(b []byte) (Ticket, error) {
	if len(b) > maxTicket {
		return Ticket{}, fmt.Errorf("ledgers: ticket of %d bytes, want at most %d", len(b), maxTicket)
	}
	var w wireTicket
	if err := json.Unmarshal(b, &w); err != nil {
		return Ticket{}, fmt.Errorf(`ledgers: ticket %q: %w, want {"flight":NAME,"start":N,"end":N}`, b, err)
	}
	if w.Flight == "" || w.Start == nil || w.End == nil {
		return Ticket{}, fmt.Errorf(`ledgers: ticket %q: want {"flight":NAME,"start":N,"end":N}`, b)
	}
	t := Ticket{w.Flight, Range{*w.Start, *w.End}}
	if t.Range.Len() == 0 {
		return Ticket{}, fmt.Errorf("ledgers: ticket %q: empty range %v", b, t.Range)
	}
	return t, nil
}
