package component

import (
	"net"
	"sync"
	"time"
)

// MaxConnections is how many connections each port of a program has at most.
const MaxConnections = 128

const (
	// spoken is how many bytes a caller has to send to be one that speaks: less
	// than any handshake or request, more than nothing.
	spoken = 64
	// silence is after how much of it a connection may go for a new one. A living
	// peer of gRPC answers pings more often.
	silence = 15 * time.Second
)

// LimitConnections bounds the open connections of a listener. At the limit a new
// one takes the place of the first of these that there is:
//
//   - the oldest one whose caller has said next to nothing,
//   - the one that has been silent longest, if that is long,
//   - one of the host that has the most, if that is more than the caller's own.
//
// Otherwise the new one is closed. So callers that connect and say nothing, or
// that are many on one host, do not keep others out.
func LimitConnections(inner net.Listener, limit int) net.Listener {
	return &limited{Listener: inner, limit: limit, open: map[*limitedConn]struct{}{}}
}

type limited struct {
	net.Listener
	limit int

	mu   sync.Mutex
	open map[*limitedConn]struct{}
}

// A limitedConn is an open connection with what its caller has said so far. Its
// fields are guarded by from.mu.
type limitedConn struct {
	net.Conn
	from     *limited
	host     string
	received int
	last     time.Time
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(inner.RemoteAddr().String())
		c := &limitedConn{Conn: inner, from: l, host: host, last: time.Now()}
		leaving := l.add(c)
		if leaving != nil {
			leaving.Conn.Close()
		}
		if leaving != c {
			return c, nil
		}
	}
}

// add returns the connection that has to go, which may be c, or nil.
func (l *limited) add(c *limitedConn) (leaving *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.limit {
		if leaving = l.expendableLocked(c); leaving == c {
			return c
		}
		delete(l.open, leaving)
	}
	l.open[c] = struct{}{}
	return leaving
}

func (l *limited) expendableLocked(c *limitedConn) *limitedConn {
	var mute, silent *limitedConn
	hosts := map[string]int{c.host: 1}
	of := map[string]*limitedConn{} // the one of each host that came last
	for o := range l.open {
		if o.received < spoken && (mute == nil || o.last.Before(mute.last)) {
			mute = o
		}
		if silent == nil || o.last.Before(silent.last) {
			silent = o
		}
		hosts[o.host]++
		if other := of[o.host]; other == nil || other.last.Before(o.last) {
			of[o.host] = o
		}
	}
	if mute != nil {
		return mute
	}
	if time.Since(silent.last) > silence {
		return silent
	}
	most := c.host
	for host, n := range hosts {
		if n > hosts[most] {
			most = host
		}
	}
	if most == c.host {
		return c
	}
	return of[most]
}

func (c *limitedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.from.mu.Lock()
		c.last, c.received = time.Now(), min(c.received+n, spoken)
		c.from.mu.Unlock()
	}
	return n, err
}

func (c *limitedConn) Close() error {
	c.from.mu.Lock()
	delete(c.from.open, c)
	c.from.mu.Unlock()
	return c.Conn.Close()
}
