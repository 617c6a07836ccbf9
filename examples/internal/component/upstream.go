package component

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// askTimeout bounds how long a call waits for the control plane to say where
// its upstream is now. The address of before is used when it does not.
const askTimeout = 2 * time.Second

// An UpstreamConn is the connection to the component that is read. An upstream
// that was restarted may serve elsewhere, so every call asks for its address
// again. It is safe for concurrent use.
type UpstreamConn struct {
	c                    *Component
	variable, configured string
	role                 Role
	flight               string

	mu       sync.Mutex
	endpoint string
}

// DialUpstream waits until the upstream is known, as [Component.Upstream] does. Its
// id is empty where that is not known, and conn is nil when the component is asked
// to end first.
func (c *Component) DialUpstream(ctx context.Context, variable, configured string, role Role,
	flight string,
) (conn *UpstreamConn, id string, err error) {
	endpoint, id, err := c.Upstream(ctx, variable, configured, role, flight)
	if err != nil || endpoint == "" {
		return nil, "", err
	}
	return &UpstreamConn{
		c: c, variable: variable, configured: configured, role: role, flight: flight,
		endpoint: endpoint,
	}, id, nil
}

func (u *UpstreamConn) conn(ctx context.Context) (grpc.ClientConnInterface, error) {
	if u.configured == "" {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		endpoint, _, err := u.c.Upstream(ctx, u.variable, "", u.role, u.flight)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		if endpoint != "" {
			u.mu.Lock()
			u.endpoint = endpoint
			u.mu.Unlock()
		}
	}
	u.mu.Lock()
	endpoint := u.endpoint
	u.mu.Unlock()
	return u.c.Dial(endpoint)
}

// Invoke calls the upstream where it is now.
func (u *UpstreamConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	conn, err := u.conn(ctx)
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, method, args, reply, opts...)
}

// NewStream opens a stream to the upstream where it is now.
func (u *UpstreamConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	conn, err := u.conn(ctx)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, desc, method, opts...)
}
