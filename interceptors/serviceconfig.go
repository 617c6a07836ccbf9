package interceptors

import (
	"cmp"
	"encoding/json"
	"strconv"
	"time"
)

// ServiceConfigOptions says what [ServiceConfig] writes.
type ServiceConfigOptions struct {
	// MaxAttempts counts the first try too. Zero is 3; gRPC takes no more than 5.
	MaxAttempts int
	// InitialBackoff is the first delay, where the server gave none. Zero is 100 ms.
	InitialBackoff time.Duration
	// MaxBackoff bounds it. Zero is 5 s.
	MaxBackoff time.Duration
	// RetryPut retries DoPut and DoExchange too. gRPC replays only what fits its
	// buffer, 256 KiB unless grpc.MaxRetryRPCBufferSize raises it, and a server
	// must be able to take a batch twice.
	RetryPut bool
	// Services get the same policy as Flight, by their full names, such as "acme.v1.Ledger".
	Services []string
	// Balancer names the balancer, such as "weighted_round_robin", which needs
	// its package imported. Empty leaves gRPC's default.
	Balancer string
}

// ServiceConfig returns a service config for grpc.WithDefaultServiceConfig: it
// retries Flight calls that were rejected as UNAVAILABLE, and stops when most of
// them are, because retries without a budget turn an overload into four.
// RESOURCE_EXHAUSTED is not retried: gRPC says the same of a message that is
// larger than its limit, which no retry cures.
func ServiceConfig(o ServiceConfigOptions) string {
	type name struct {
		Service string `json:"service,omitempty"`
		Method  string `json:"method,omitempty"`
	}
	type retryPolicy struct {
		MaxAttempts          int      `json:"maxAttempts"`
		InitialBackoff       string   `json:"initialBackoff"`
		MaxBackoff           string   `json:"maxBackoff"`
		BackoffMultiplier    float64  `json:"backoffMultiplier"`
		RetryableStatusCodes []string `json:"retryableStatusCodes"`
	}
	type methodConfig struct {
		Name        []name       `json:"name"`
		RetryPolicy *retryPolicy `json:"retryPolicy"`
	}
	type config struct {
		Balancing    []map[string]struct{} `json:"loadBalancingConfig,omitempty"`
		MethodConfig []methodConfig        `json:"methodConfig"`
		Throttling   struct {
			MaxTokens  int     `json:"maxTokens"`
			TokenRatio float64 `json:"tokenRatio"`
		} `json:"retryThrottling"`
	}
	const service = "arrow.flight.protocol.FlightService"
	methods := []string{"GetFlightInfo", "PollFlightInfo", "GetSchema", "ListFlights", "ListActions", "DoGet"}
	if o.RetryPut {
		methods = append(methods, "DoPut", "DoExchange")
	}
	var names []name
	for _, m := range methods {
		names = append(names, name{service, m})
	}
	for _, s := range o.Services {
		names = append(names, name{Service: s})
	}
	c := config{MethodConfig: []methodConfig{{names, &retryPolicy{
		MaxAttempts:       min(cmp.Or(o.MaxAttempts, 3), 5),
		InitialBackoff:    seconds(cmp.Or(o.InitialBackoff, 100*time.Millisecond)),
		MaxBackoff:        seconds(cmp.Or(o.MaxBackoff, 5*time.Second)),
		BackoffMultiplier: 2, RetryableStatusCodes: []string{"UNAVAILABLE"},
	}}}}
	if o.Balancer != "" {
		c.Balancing = []map[string]struct{}{{o.Balancer: {}}}
	}
	c.Throttling.MaxTokens, c.Throttling.TokenRatio = 10, 0.1
	text, err := json.Marshal(c)
	if err != nil {
		panic("interceptors: " + err.Error()) // strings and numbers always marshal
	}
	return string(text)
}

// seconds writes a duration as the JSON form of protobuf does.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}
