package runner

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

// maxRestarts is how often each component is started again in a run.
const maxRestarts = 5

// A revival is a component that died and will be started again.
type revival struct {
	of    unit
	at    time.Time
	count int
}

// died starts components that died again, with backoff, and returns why one
// cannot be. One that says why it ended would say so again; one that was killed,
// that crashed, or that somebody asked to end, is worth another start.
func (p *pipeline) died() error {
	for _, role := range component.Roles {
		u := p.units[role]
		if u == nil || running(u) {
			continue
		}
		err := either(u.Err(), fmt.Errorf("%s ended by itself", role))
		r := p.revivals[role]
		if r.of != u { // it just died
			if !revivable(u) {
				return err
			}
			if r.count == maxRestarts {
				return fmt.Errorf("%w, for the last time: it was started again %d times", err, maxRestarts)
			}
			r = revival{of: u, at: time.Now().Add(100 * time.Millisecond << r.count), count: r.count + 1}
			p.revivals[role] = r
			p.console.say("%v: starting it again, %d of at most %d times", err, r.count, maxRestarts)
			delete(p.addresses, role)
			delete(p.follow.urls, role)
		}
		if time.Now().Before(r.at) {
			continue
		}
		if err := p.launch(role); err != nil {
			return err
		}
	}
	p.collect()
	return nil
}

// running says whether a unit has not ended.
func running(u unit) bool {
	select {
	case <-u.Done():
		return false
	default:
		return true
	}
}

// revivable says whether an ended unit is worth another start.
func revivable(u unit) bool {
	if _, isChild := u.(*child); !isChild {
		return false // its goroutines share our fate
	}
	switch statusOf(u.Err()) {
	case component.ExitFailed, component.ExitShort:
		return false
	}
	return true
}

// statusOf is the exit status of a component that ended with err; -1 is a
// signal.
func statusOf(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return component.ExitCode(err)
}

// collect takes note of where components serve. One that is started again
// serves there, too: others know it by its address.
func (p *pipeline) collect() {
	for role, u := range p.units {
		select {
		case at, ok := <-u.Ready():
			if !ok {
				continue // seen already, or it ended
			}
			p.addresses[role] = at
			p.follow.urls[role] = p.security.Scheme() + "://" + at.HTTP
			p.pin(shortNames[role], at.Flight)
			p.pin(shortNames[role]+httpSuffix, at.HTTP)
			if role == component.RoleSink && p.up.IsZero() {
				p.up = time.Now()
			}
		default:
		}
	}
}

func (p *pipeline) pin(name, address string) {
	_, text, _ := net.SplitHostPort(address)
	if port, err := strconv.Atoi(text); err == nil {
		p.opts.Ports[name] = port
	}
}
