package interceptors_test

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
)

// A rate for each tenant: the plain ones have 10 calls a second, "gold" has 1000.
// The name comes from the metadata here; behind authentication it would be the
// caller's identity.
func ExampleServerConfig() {
	gate, err := flowcontrol.New(flowcontrol.Config{
		MaxKeys: 1000,
		KeyRate: flowcontrol.Rates{Messages: 10},
		KeyRateOf: func(tenant string) (flowcontrol.Rates, flowcontrol.Cost) {
			if tenant == "gold" {
				return flowcontrol.Rates{Messages: 1000}, flowcontrol.Cost{}
			}
			return flowcontrol.Rates{Messages: 10}, flowcontrol.Cost{}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	governor, err := interceptors.NewServer(interceptors.ServerConfig{
		Throttler: gate,
		Tenant: func(ctx context.Context, method string) string {
			if names := metadata.ValueFromIncomingContext(ctx, "tenant"); len(names) > 0 {
				return names[0]
			}
			return "" // nobody's
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := grpc.NewServer(governor.ServerOptions()...)
	defer server.Stop()
}
