package server_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
)

// caller speaks the three services without an agent.
type caller struct {
	t   *testing.T
	ctx context.Context
	old flowctlpb.Client
	v1  flowctlv1pb.Client
	own sluicepb.CoordinationClient
}

func newCaller(t *testing.T, p *plane) *caller {
	conn := p.dial()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); conn.Close() })
	return &caller{
		t,
		ctx,
		flowctlpb.Client{Conn: conn},
		flowctlv1pb.Client{Conn: conn},
		sluicepb.NewCoordinationClient(conn),
	}
}

func (c *caller) register(id string) error {
	_, err := c.v1.RegisterComponent(
		c.ctx,
		&flowctlv1pb.RegisterRequest{ComponentId: id, Component: &flowctlv1pb.ComponentInfo{
			Type: flowctlv1pb.ComponentType_COMPONENT_TYPE_CONSUMER, InputEventTypes: []string{"events"},
		}},
	)
	return err
}

func (c *caller) beat(id string, metrics map[string]float64) error {
	_, err := c.old.Heartbeat(c.ctx, &flowctlpb.ServiceHeartbeat{ServiceId: id, Metrics: metrics})
	return err
}

func (c *caller) unregister(id string) error {
	_, err := c.v1.UnregisterComponent(c.ctx, &flowctlv1pb.UnregisterRequest{ServiceId: id})
	return err
}

// stream joins, sends one beat, and returns what ends the stream.
func (c *caller) stream(id string, beat *sluicepb.Beat) error {
	stream, err := c.own.Coordinate(c.ctx)
	require.NoError(c.t, err)
	require.NoError(c.t, stream.Send(&sluicepb.Up{Message: &sluicepb.Up_Hello{Hello: &sluicepb.Hello{ServiceId: id}}}))
	_ = stream.Send(&sluicepb.Up{Message: &sluicepb.Up_Beat{Beat: beat}})
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

// join opens a stream as an incarnation of id, and returns what ends it.
func (c *caller) join(id string, incarnation uint64) error {
	stream, err := c.own.Coordinate(c.ctx)
	require.NoError(c.t, err)
	require.NoError(
		c.t,
		stream.Send(
			&sluicepb.Up{Message: &sluicepb.Up_Hello{Hello: &sluicepb.Hello{ServiceId: id, Incarnation: incarnation}}},
		),
	)
	_, err = stream.Recv()
	return err
}
