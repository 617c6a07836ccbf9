package programs_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/flights"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/programs/sourceprogram"
)

// Callers that connect and say next to nothing, more than a port takes, keep
// nobody out of any port.
func TestSlowLoris(t *testing.T) {
	d := deploy(t, nil)
	for _, role := range component.Roles {
		for address, word := range map[string]string{d.at[role].Flight: "PRI * HT", d.at[role].HTTP: "GET /metrics HT"} {
			for range 2 * component.MaxConnections {
				conn, err := net.Dial("tcp", address)
				require.NoError(t, err)
				t.Cleanup(func() { conn.Close() })
				_, err = conn.Write([]byte(word))
				require.NoError(t, err)
			}
		}
		require.Equal(t, 200, get(t, nil, "http://"+d.at[role].HTTP+"/metrics", ""))
		health := grpc_health_v1.NewHealthClient(d.dial(t, role, insecure.NewCredentials()))
		_, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		require.NoError(t, err, role)
	}
}

// What one request may bring is bounded, whatever it is, and so is what it leaves
// in a log or a status.
func TestRequestsAreBounded(t *testing.T) {
	d := deploy(t, nil)
	for _, role := range component.Roles {
		at := "http://" + d.at[role].HTTP
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/metrics", nil)
		require.NoError(t, err)
		r.Header.Set("X-Long", strings.Repeat("x", 1<<20))
		if answer, err := http.DefaultClient.Do(r); err == nil { // or the connection was closed first
			answer.Body.Close()
			require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, answer.StatusCode, role)
		}
		if role == component.RoleControlPlane {
			continue
		}
		client := flight.NewClientFromConn(d.dial(t, role, insecure.NewCredentials()), nil)
		get := func(ticket []byte, header string) error {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-long", header)
			stream, err := client.DoGet(ctx, &flight.Ticket{Ticket: ticket})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}
		require.Equal(t, codes.ResourceExhausted, status.Code(get(make([]byte, 1<<20), "")), role)
		require.Error(t, get(nil, strings.Repeat("x", 64<<10)), role)

		before := len(d.log.String())
		err = get([]byte(strings.Repeat("\x1b[31m", 10<<10)), "")
		require.Equal(t, codes.InvalidArgument, status.Code(err), role)
		require.Less(t, len(status.Convert(err).Message()), 2<<10)
		require.Less(t, len(d.log.String())-before, 8<<10)
		require.NotContains(t, d.log.String(), "\x1b")
	}
}

// The key in an RPC server's URL reaches no client, no log and no error.
func TestSecretsStayInside(t *testing.T) {
	const key = "s3cr3t-key-0123456789"
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var question struct {
			ID json.RawMessage `json:"id"`
		}
		_ = json.NewDecoder(r.Body).Decode(&question)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"no such key: %s %s"}}`, question.ID,
			r.URL.Path, r.URL.RawQuery)
	}))
	defer broken.Close()
	drain, ready, log := make(chan struct{}), make(chan component.Addresses, 1), new(logs)
	p := process(map[string]string{
		"LEDGER_SOURCE": "rpc", "RPC_URL": broken.URL + "/" + key + "?token=" + key, "FLIGHT_PORT": "0", "HEALTH_PORT": "0",
		"LOG_LEVEL": "debug",
	})
	p.Drain, p.Log, p.Ready = drain, log, func(a component.Addresses) { ready <- a }
	ended := make(chan error, 1)
	go func() { ended <- sourceprogram.Run(t.Context(), p) }()
	var at component.Addresses
	select {
	case at = <-ready:
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	}
	d := &deployment{at: map[component.Role]component.Addresses{component.RoleSource: at}}
	client := flight.NewClientFromConn(d.dial(t, component.RoleSource, insecure.NewCredentials()), nil)
	_, err := client.GetFlightInfo(t.Context(), flights.Descriptor(ledgers.FlightName))
	require.Error(t, err)
	require.Contains(t, err.Error(), "no such key", "the rest of the answer is there")
	require.NotContains(t, err.Error(), key)
	stream, err := client.DoGet(t.Context(), &flight.Ticket{Ticket: ledgers.Ticket{
		Flight: ledgers.FlightName,
		Range:  ledgers.Range{First: 3, Last: 4},
	}.Marshal()})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Error(t, err)
	require.NotContains(t, err.Error(), key)
	close(drain)
	require.NoError(t, <-ended)
	require.Contains(t, log.String(), "stream failed")
	require.NotContains(t, log.String(), key)
}
