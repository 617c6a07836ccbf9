package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// A picture is what the pipeline looks like at one moment, as far as its
// components answered.
type picture struct {
	at       time.Time
	decision component.Decision
	stages   map[component.Role]component.Status
	sink     sink.Status
}

// askTimeout bounds one question to a component.
const askTimeout = 2 * time.Second

// A follower asks the components how they are. Its client is set before the first
// question.
type follower struct {
	client *http.Client
	urls   map[component.Role]string
}

func newFollower() *follower {
	return &follower{urls: map[component.Role]string{}}
}

// look asks every component at once. One that does not answer keeps what it
// said before.
func (f *follower) look(ctx context.Context, before picture) picture {
	p := picture{
		at:       time.Now(),
		decision: before.decision,
		sink:     before.sink,
		stages:   map[component.Role]component.Status{},
	}
	maps.Copy(p.stages, before.stages)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for role, url := range f.urls {
		wg.Go(func() {
			if role == component.RoleControlPlane {
				var d component.Decision
				if f.get(ctx, url+"/state", &d) == nil {
					mu.Lock()
					defer mu.Unlock()
					p.decision = d
				}
				return
			}
			var st component.Status
			if f.get(ctx, url+"/status", &st) != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			p.stages[role] = st
			var work sink.Status
			if role == component.RoleSink && json.Unmarshal(st.Work, &work) == nil {
				p.sink = work
			}
		})
	}
	wg.Wait()
	return p
}

// healthy says whether the component is ready to serve.
func (f *follower) healthy(ctx context.Context, role component.Role) error {
	path := "/readyz"
	if role == component.RoleControlPlane {
		path = "/state"
	}
	return f.get(ctx, f.urls[role]+path, nil)
}

func (f *follower) get(ctx context.Context, url string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := f.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(into)
}

// peakLoad is the highest load of any stage so far.
func (p picture) peakLoad() float64 {
	peak := 0.0
	for _, st := range p.stages {
		peak = max(peak, st.PeakLoad)
	}
	return peak
}

// throttled is the longest that any component was throttled.
func (p picture) throttled() float64 {
	longest := 0.0
	for _, st := range p.stages {
		longest = max(longest, st.ThrottledSeconds)
	}
	return longest
}
