package component

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// pools are the component's connections to others.
type pools struct{}

func (c *Component) openPools() error { return nil }

// Dial returns the connections to an endpoint. They belong to the component.
func (c *Component) Dial(endpoint string) (grpc.ClientConnInterface, error) {
	conn, err := grpc.NewClient(endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes)),
		grpc.WithStaticStreamWindowSize(windowBytes),
		grpc.WithStaticConnWindowSize(4*windowBytes),
	)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, func() { conn.Close() })
	return conn, nil
}
