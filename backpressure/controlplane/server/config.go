package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
)

// Config configures a [Server]. A zero field is its default. Most servers set
// Decision.Activation and Decision.Recovery, a Token or Admins, and Folder.
type Config struct {
	// Decision configures the controller of each pipeline: thresholds, policy,
	// driver. Its Learn defaults to one of its intervals here, so that a restarted
	// control plane neither releases nor slams a running pipeline; negative: decide
	// at once. Its TTL does not count: the registry decides what is gone.
	Decision backpressure.Config
	// JanitorInterval is how often the registry looks for stale components: one counts
	// that much longer than it should. Default 10 s.
	JanitorInterval time.Duration
	// ReportInterval and LoadStep ask agents for a report when their load has
	// moved by LoadStep, at most once a ReportInterval. Smaller ones show a jump
	// sooner and cost a message each. Default 100 ms and 0.05.
	ReportInterval time.Duration
	LoadStep       float64
	// Limits bound what callers can make the server remember.
	Limits Limits
	// Token is the bearer token that callers carry, if any. The gRPC server
	// demands it by the options of [BearerToken]; here it says which callers may
	// change settings.
	Token string
	// AdminToken is the bearer token of callers that may change settings.
	// Default: Token. Without any, and without Admins, settings cannot be changed
	// from outside.
	AdminToken string
	// Admins are the identities, as in client certificates, that may change
	// settings and speak for any component.
	Admins []string
	// Folder, if set, is where the server remembers over a restart the
	// registrations of stock flowctl components, which register once and never
	// again, and the settings that were changed from outside, which then win over
	// Decision. One server at a time. Default: nothing is remembered.
	Folder string
	// Logger receives registrations, expiries and the controller's transitions.
	// Default: silence.
	Logger *slog.Logger
}

// Limits bound what callers can make a [Server] remember. A zero field is its
// default. What goes beyond one is rejected as [TooMany], and as [Invalid] where it is
// a single text; nothing is cut off in silence.
type Limits struct {
	// Components in all. Default 16,384.
	Components int
	// ComponentsPerPeer: components that one connection may register. Default 256.
	ComponentsPerPeer int
	// Metrics that are kept of one component. Default 256.
	Metrics int
	// Entries of a component's event types, upstreams and metadata, each.
	// Default 64.
	Entries int
	// Text: bytes of one name, key or value from outside. Default 1,024.
	Text int
	// Edges that are kept of one component. Default 64.
	Edges int
	// Bytes of text in all, about. Default 128 MiB.
	Bytes int
}

func (c Config) withDefaults() Config {
	c.Decision.Interval = cmp.Or(c.Decision.Interval, time.Second)
	switch {
	case c.Decision.Learn == 0:
		c.Decision.Learn = c.Decision.Interval
	case c.Decision.Learn < 0:
		c.Decision.Learn = 0
	}
	c.JanitorInterval = cmp.Or(c.JanitorInterval, 10*time.Second)
	c.ReportInterval = cmp.Or(c.ReportInterval, controlplane.DefaultReportInterval)
	c.LoadStep = cmp.Or(c.LoadStep, controlplane.DefaultLoadStep)
	c.Limits = c.Limits.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Decision.Logger == nil {
		c.Decision.Logger = c.Logger
	}
	// The registry decides which component is gone, by its own heartbeat.
	c.Decision.TTL = -1
	return c
}

func (l Limits) withDefaults() Limits {
	l.Components = cmp.Or(l.Components, 16_384)
	l.ComponentsPerPeer = cmp.Or(l.ComponentsPerPeer, 256)
	l.Metrics = cmp.Or(l.Metrics, 256)
	l.Entries = cmp.Or(l.Entries, 64)
	l.Text = cmp.Or(l.Text, 1024)
	l.Edges = cmp.Or(l.Edges, 64)
	l.Bytes = cmp.Or(l.Bytes, 128<<20)
	return l
}

func (c Config) validate() error {
	var problems []error
	if c.JanitorInterval <= 0 {
		problems = append(problems, fmt.Errorf("JanitorInterval is %v, want above 0", c.JanitorInterval))
	}
	if c.ReportInterval <= 0 {
		problems = append(problems, fmt.Errorf("ReportInterval is %v, want above 0", c.ReportInterval))
	}
	if !(c.LoadStep > 0 && c.LoadStep <= 1) {
		problems = append(problems, fmt.Errorf("LoadStep is %v, want above 0 and at most 1", c.LoadStep))
	}
	l := c.Limits
	for _, limit := range [...]struct {
		name string
		n    int
	}{
		{"Components", l.Components},
		{"ComponentsPerPeer", l.ComponentsPerPeer},
		{"Metrics", l.Metrics},
		{"Entries", l.Entries},
		{"Text", l.Text},
		{"Edges", l.Edges},
		{"Bytes", l.Bytes},
	} {
		if limit.n < 0 {
			problems = append(problems, fmt.Errorf("Limits.%s is %d, want 1 or more", limit.name, limit.n))
		}
	}
	return errors.Join(problems...)
}
