package connpool

import (
	"encoding/json"
	"time"

	"google.golang.org/grpc/codes"
)

// Connections to one name spread over its addresses only when each shuffles
// them: pick_first alone puts all of them on the first.
const defaultServiceConfig = `{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`

const flightService = "arrow.flight.protocol.FlightService"

// FlightRetry configures [FlightServiceConfig]. Zero fields are defaults.
type FlightRetry struct {
	// MaxAttempts of a call, the first among them; 0 = 4. gRPC allows 5 at most.
	MaxAttempts int
	// InitialBackoff and MaxBackoff of the pauses; 0 = 100 ms and 2 s.
	InitialBackoff, MaxBackoff time.Duration
	// Codes that are tried again; nil = UNAVAILABLE alone.
	Codes []codes.Code
	// Writes tries DoPut and DoExchange again too. Only what fits gRPC's retry
	// buffer can be (256 KiB by default).
	Writes bool
}

// FlightServiceConfig returns a service configuration for Config.ServiceConfig
// with which gRPC retries Flight's read methods, honours the server's pushback,
// and stops when most retries fail. A read can be tried again until its first
// message has come, so DoGet, GetFlightInfo, GetSchema, PollFlightInfo,
// ListFlights and ListActions are in; DoAction may change things, and is not.
func FlightServiceConfig(r FlightRetry) string {
	methods := []string{"DoGet", "GetFlightInfo", "GetSchema", "PollFlightInfo", "ListFlights", "ListActions"}
	if r.Writes {
		methods = append(methods, "DoPut", "DoExchange")
	}
	type name struct {
		Service string `json:"service"`
		Method  string `json:"method"`
	}
	names := make([]name, len(methods))
	for i, m := range methods {
		names[i] = name{flightService, m}
	}
	if r.MaxAttempts == 0 {
		r.MaxAttempts = DefaultMaxRetries + 1
	}
	if r.InitialBackoff == 0 {
		r.InitialBackoff = 100 * time.Millisecond
	}
	if r.MaxBackoff == 0 {
		r.MaxBackoff = 2 * time.Second
	}
	if r.Codes == nil {
		r.Codes = []codes.Code{codes.Unavailable}
	}
	wire := make([]int, len(r.Codes))
	for i, c := range r.Codes {
		wire[i] = int(c)
	}
	config := map[string]any{
		"loadBalancingConfig": []any{map[string]any{"pick_first": map[string]any{"shuffleAddressList": true}}},
		"methodConfig": []any{map[string]any{
			"name": names,
			"retryPolicy": map[string]any{
				"maxAttempts": r.MaxAttempts, "backoffMultiplier": 2,
				"initialBackoff": seconds(r.InitialBackoff), "maxBackoff": seconds(r.MaxBackoff),
				"retryableStatusCodes": wire,
			},
		}},
		"retryThrottling": map[string]any{"maxTokens": 10, "tokenRatio": 0.1},
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic("connpool: " + err.Error()) // strings and numbers only
	}
	return string(text)
}

// seconds writes a duration as protobuf's JSON does.
func seconds(d time.Duration) string {
	text, _ := json.Marshal(d.Seconds())
	return string(text) + "s"
}
