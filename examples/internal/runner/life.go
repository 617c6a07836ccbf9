package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

// start brings the components up: the control plane first, then the others at
// once, which find each other through it.
func (p *pipeline) start(ctx context.Context, drain <-chan struct{}) error {
	if err := p.launch(component.RoleControlPlane); err != nil {
		return err
	}
	control, err := p.await(ctx, component.RoleControlPlane, drain)
	if err != nil {
		return err
	}
	p.env = append(p.env, "FLOWCTL_ENDPOINT="+control.Flight)
	p.console.say("control plane at %s, live topology at %s://%s/", control.Flight, p.security.Scheme(), control.HTTP)
	for _, role := range component.Roles[1:] {
		if err := p.launch(role); err != nil {
			return err
		}
	}
	for _, role := range component.Roles[1:] {
		at, err := p.await(ctx, role, drain)
		if err != nil {
			return err
		}
		p.console.say("%s at %s, metrics at %s://%s/metrics", role, at.Flight, p.security.Scheme(), at.HTTP)
	}
	return nil
}

func (p *pipeline) launch(role component.Role) error {
	env, log := p.environmentOf(role), p.console.logWriter()
	if p.opts.InProcess {
		p.units[role] = startLocal(role, p.cfg.Programs[role], env, log)
		return nil
	}
	u, err := p.spawner.start(role, env, log)
	if err != nil {
		return err
	}
	p.units[role] = u
	return nil
}

// errDraining ends the start: there is nothing to drain yet.
var errDraining = errors.New("interrupted before the pipeline was up")

// await waits until the component serves and is healthy.
func (p *pipeline) await(ctx context.Context, role component.Role, drain <-chan struct{}) (component.Addresses, error) {
	ctx, cancel := context.WithTimeoutCause(
		ctx,
		healthTimeout,
		fmt.Errorf("%s is not healthy after %v", role, healthTimeout),
	)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	why := errors.New("it did not say where it serves")
	for {
		select {
		case <-poll.C:
			if err := p.died(); err != nil { // any of them: this one may wait for that one
				return component.Addresses{}, err
			}
			at, ok := p.addresses[role]
			if !ok {
				continue
			}
			if why = p.follow.healthy(ctx, role); why == nil {
				return at, nil
			}
		case <-drain:
			return component.Addresses{}, errDraining
		case <-ctx.Done():
			return component.Addresses{}, fmt.Errorf("%w: %w", context.Cause(ctx), why)
		}
	}
}

func either(err, fallback error) error {
	if err != nil {
		return err
	}
	return fallback
}

// stop drains the components against the stream, so that each finishes what it
// has while those that it needs still serve.
func (p *pipeline) stop(ctx context.Context) error {
	var errs []error
	for _, role := range slices.Backward(component.Roles) {
		p.last = p.follow.look(ctx, p.last) // what it says last is its final figure
		u := p.units[role]
		if u == nil {
			continue
		}
		u.Drain()
		select {
		case <-u.Done():
			// How far the sink came, the folder says.
			if status := statusOf(u.Err()); role != component.RoleSink ||
				status != component.ExitShort && status != component.ExitIncomplete {
				errs = append(errs, u.Err())
			}
			delete(p.follow.urls, role)
			if peak := u.PeakMemory(); peak > 0 {
				p.memory = append(p.memory, fmt.Sprintf("%s %d", shortNames[role], peak>>20))
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}

// killAll stops whatever still runs.
func (p *pipeline) killAll() {
	for _, u := range p.units {
		u.Kill()
	}
	for _, u := range p.units {
		<-u.Done()
	}
}
