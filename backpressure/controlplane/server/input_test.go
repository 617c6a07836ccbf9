package server_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
)

// TestBadInputIsRejectedAndChangesNothing sends what other teams' components
// have been seen to send, and worse.
func TestBadInputIsRejectedAndChangesNothing(t *testing.T) {
	huge := map[string]float64{}
	for i := range 20_000 { // about 1 MB
		huge[fmt.Sprintf("metric-%044d", i)] = 1
	}
	text := map[string]string{}
	for key := range huge {
		text[key] = "1"
	}
	metrics := func(key string, v float64) func(*caller) error {
		return func(c *caller) error { return c.beat("sink", map[string]float64{key: v}) }
	}
	cases := map[string]struct {
		send func(*caller) error
		want codes.Code
	}{
		"NaN in flight":             {metrics(controlplane.MetricInFlight, math.NaN()), codes.InvalidArgument},
		"infinite in flight":        {metrics(controlplane.MetricInFlight, math.Inf(1)), codes.InvalidArgument},
		"negative in flight":        {metrics(controlplane.MetricInFlight, -1), codes.InvalidArgument},
		"absurd in flight":          {metrics(controlplane.MetricInFlight, 1e18), codes.InvalidArgument},
		"NaN in a metric of theirs": {metrics("temperature", math.NaN()), codes.InvalidArgument},
		"fraction above 1":          {metrics(controlplane.MetricFraction, 1.5), codes.InvalidArgument},
		"negative latency":          {metrics(controlplane.MetricLatency, -5), codes.InvalidArgument},
		"control character":         {metrics("a\x00b", 1), codes.InvalidArgument},
		"terminal escape":           {metrics("a\x1b[2Jb", 1), codes.InvalidArgument},
		"a name of 10 KB":           {metrics(strings.Repeat("x", 10_000), 1), codes.InvalidArgument},
		"1 MB of metrics":           {func(c *caller) error { return c.beat("sink", huge) }, codes.ResourceExhausted},
		"1 MB of metrics in text": {func(c *caller) error {
			_, err := c.v1.Heartbeat(c.ctx, &flowctlv1pb.HeartbeatRequest{ServiceId: "sink", Metrics: text})
			return err
		}, codes.ResourceExhausted},
		"NaN in text": {func(c *caller) error {
			_, err := c.v1.Heartbeat(
				c.ctx,
				&flowctlv1pb.HeartbeatRequest{ServiceId: "sink", Metrics: map[string]string{controlplane.MetricInFlight: "NaN"}},
			)
			return err
		}, codes.InvalidArgument},
		"unknown service":            {func(c *caller) error { return c.beat("nobody", nil) }, codes.NotFound},
		"empty id":                   {func(c *caller) error { return c.register("") }, codes.InvalidArgument},
		"control character in an id": {func(c *caller) error { return c.register("si\nnk") }, codes.InvalidArgument},
		"an id of 1 MB": {
			func(c *caller) error { return c.register(strings.Repeat("x", 1<<20)) },
			codes.InvalidArgument,
		},
		"negative maximum in metadata is no maximum": {func(c *caller) error {
			_, err := c.old.Register(
				c.ctx, &flowctlpb.ServiceInfo{ServiceId: "sink", MaxInflight: -5, OutputEventTypes: make([]string, 1000)},
			)
			return err
		}, codes.ResourceExhausted},
		"clock skew of a day": {func(c *caller) error {
			return c.stream(
				"sink",
				&sluicepb.Beat{
					Time: timestamppb.New(time.Now().Add(-24 * time.Hour)),
					Load: &sluicepb.Load{InFlight: 90, MaxInFlight: 100},
				},
			)
		}, codes.InvalidArgument},
		"NaN on the stream": {func(c *caller) error {
			return c.stream("sink", &sluicepb.Beat{Load: &sluicepb.Load{InFlight: 90, MaxInFlight: 100, Throughput: math.NaN()}})
		}, codes.InvalidArgument},
		"5 MB, beyond what gRPC takes": {metrics(strings.Repeat("x", 5<<20), 1), codes.ResourceExhausted},
		"5 MB on the stream": {func(c *caller) error {
			return c.stream("sink", &sluicepb.Beat{Metrics: map[string]float64{strings.Repeat("x", 5<<20): 1}})
		}, codes.ResourceExhausted},
		"noise in a beat": {func(c *caller) error {
			noise := &sluicepb.Beat{}
			noise.ProtoReflect().SetUnknown([]byte{0x12, 0x7f, 0x01}) // a load of 127 bytes, of which one comes: gRPC rejects it
			return c.stream("sink", noise)
		}, codes.Internal},
		"a beat that is none": {func(c *caller) error {
			stream, err := c.own.Coordinate(c.ctx)
			require.NoError(c.t, err)
			for range 2 {
				require.NoError(
					c.t, stream.Send(&sluicepb.Up{Message: &sluicepb.Up_Hello{Hello: &sluicepb.Hello{ServiceId: "sink"}}}),
				)
			}
			for {
				if _, err := stream.Recv(); err != nil {
					return err
				}
			}
		}, codes.InvalidArgument},
		"10,000 edges": {func(c *caller) error {
			return c.stream("sink", &sluicepb.Beat{Load: &sluicepb.Load{InFlight: 90}, Edges: make([]*sluicepb.Edge, 10_000)})
		}, codes.ResourceExhausted},
		"a stream for nobody": {func(c *caller) error { return c.stream("nobody", &sluicepb.Beat{}) }, codes.NotFound},
		"a first message that is no Hello": {func(c *caller) error {
			stream, err := c.own.Coordinate(c.ctx)
			require.NoError(c.t, err)
			require.NoError(c.t, stream.Send(&sluicepb.Up{}))
			_, err = stream.Recv()
			return err
		}, codes.InvalidArgument},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := startPlane(t, server.Config{Decision: backpressure.Config{Learn: -1}})
				c := newCaller(t, p)
				require.NoError(t, c.register("sink"))
				require.NoError(
					t, c.beat("sink", map[string]float64{controlplane.MetricInFlight: 10, controlplane.MetricMaxInFlight: 100}),
				)
				before, rejected, size := p.server.Controller().Snapshot(), total(p.server.Rejected()), p.server.Kept().Bytes

				err := test.send(c)
				require.Equal(t, test.want, status.Code(err), "%v", err)
				require.Less(t, len(err.Error()), 500, "hostile text is not echoed")
				require.Greater(t, total(p.server.Rejected()), rejected, "counted")
				after := p.server.Controller().Snapshot()
				require.Equal(t, before.InFlight, after.InFlight)
				require.Equal(t, before.AggregateLoad, after.AggregateLoad)
				require.Equal(t, size, p.server.Kept().Bytes)
				require.NotContains(t, p.server.Components()[0].Metrics, "temperature")
				require.NoError(
					t, c.beat("sink", map[string]float64{controlplane.MetricInFlight: 11}), "and the next good one counts",
				)
				require.EqualValues(t, 11, p.server.Controller().Snapshot().InFlight)
			})
		})
	}
}

func TestOneConnectionCannotFillTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		c := newCaller(t, p)
		taken := 0
		for i := range 10_000 {
			if err := c.register(fmt.Sprint("id-", i)); err == nil {
				taken++
			} else {
				require.Equal(t, codes.ResourceExhausted, status.Code(err))
			}
		}
		require.Equal(t, 256, taken)
	})
}

func TestTextIsBoundedInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{Limits: server.Limits{Bytes: 100_000, Components: 1000, ComponentsPerPeer: 1000}})
		c := newCaller(t, p)
		rejected := 0
		for i := range 50 {
			id := fmt.Sprint("id-", i)
			if err := c.register(id); err != nil {
				require.Equal(t, codes.ResourceExhausted, status.Code(err))
				rejected++
				continue
			}
			for j := range 20 {
				_ = c.beat(id, map[string]float64{strings.Repeat("x", 900) + fmt.Sprint(j): 1})
			}
		}
		require.Positive(t, rejected)
		require.LessOrEqual(t, p.server.Kept().Bytes, 100_000)
		for _, component := range p.server.Components() {
			require.NoError(t, c.unregister(component.ID))
		}
		require.Zero(t, p.server.Kept(), "every byte is given back")
	})
}

func total[K comparable](counts map[K]uint64) (n uint64) {
	for _, count := range counts {
		n += count
	}
	return n
}
