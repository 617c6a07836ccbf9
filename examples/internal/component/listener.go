package component

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// MaxConnections is how many connections each port of a program has at most.
const MaxConnections = 128

// LimitConnections bounds the open connections of a listener. A new one is always
// taken: beyond the limit, the one from which nothing has come for the longest
// time is closed for it. So callers that connect and say nothing, or next to
// nothing, do not keep others out.
func LimitConnections(inner net.Listener, limit int) net.Listener {
	return &limited{Listener: inner, limit: limit, open: map[*limitedConn]struct{}{}}
}

type limited struct {
	net.Listener
	limit int

	mu   sync.Mutex
	open map[*limitedConn]struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &limitedConn{Conn: inner, from: l}
	c.heard()
	if silent := l.add(c); silent != nil {
		silent.Close()
	}
	return c, nil
}

// add returns the connection that has to go, if one has to.
func (l *limited) add(c *limitedConn) (silent *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.limit {
		for o := range l.open {
			if silent == nil || o.last.Load() < silent.last.Load() {
				silent = o
			}
		}
		delete(l.open, silent)
	}
	l.open[c] = struct{}{}
	return silent
}

func (l *limited) remove(c *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

type limitedConn struct {
	net.Conn
	from *limited
	last atomic.Int64 // when something came last
}

func (c *limitedConn) heard() { c.last.Store(time.Now().UnixNano()) }

func (c *limitedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard()
	}
	return n, err
}

func (c *limitedConn) Close() error {
	c.from.remove(c)
	return c.Conn.Close()
}
