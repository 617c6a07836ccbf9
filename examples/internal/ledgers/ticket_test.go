package ledgers_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

func TestTicket(t *testing.T) {
	want := ledgers.Ticket{Flight: ledgers.FlightName, Range: ledgers.Range{First: 0, Last: 4294967295}}
	require.JSONEq(t, `{"flight":"ledgers","start":0,"end":4294967295}`, string(want.Marshal()))
	got, err := ledgers.ParseTicket(want.Marshal())
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestBadTickets(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "unexpected end",
		"null":                               "want {",
		"[]":                                 "cannot unmarshal",
		"{}":                                 "want {",
		`{"flight":"ledgers"}`:               "want {",
		`{"flight":"ledgers","start":1}`:     "want {",
		`{"start":1,"end":1}`:                "want {",
		`{"flight":"x","start":-1,"end":1}`:  "cannot unmarshal",
		`{"flight":"x","start":1.5,"end":2}`: "cannot unmarshal",
		`{"flight":"x","start":1,"end":9999999999}`: "cannot unmarshal",
		`{"flight":"x","start":2,"end":1}`:          "empty range 2-1",
		`{"flight":"x","start":1,"end":2} x`:        "invalid character",
		strings.Repeat(" ", 257):                    "257 bytes",
	} {
		_, err := ledgers.ParseTicket([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzTicket(f *testing.F) {
	f.Add([]byte(`{"flight":"ledgers","start":53312000,"end":53312199}`))
	f.Add([]byte(`{"flight":"ttp_events","start":1,"end":1}`))
	f.Add([]byte(`{"flight":"","start":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ticket, err := ledgers.ParseTicket(b)
		if err != nil {
			require.Zero(t, ticket)
			return
		}
		require.Positive(t, ticket.Range.Len())
		again, err := ledgers.ParseTicket(ticket.Marshal())
		if err == nil { // escaping may push a strange name over the limit
			require.Equal(t, ticket, again)
		}
	})
}
