package page

import (
	"context"
	_ "embed"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/internal/testenv"
)

// A look is how a reader looks at the page.
type look struct {
	name          string
	width, height int64
	scheme        string // light or dark
}

var looks = []look{
	{"light", 1280, 900, "light"},
	{"dark", 1280, 900, "dark"},
	{"phone", 360, 780, "light"},
	{"phone-dark", 360, 780, "dark"},
}

//go:embed audit.js
var audit string

// A tab is a page in the browser that notes what it asks for and says.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	requests []string
	messages []string
}

// startBrowser starts one Chromium for a test; tabs share it.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	program := testenv.Require(t, "chromium", "chromium")
	ctx, cancel := chromedp.NewContext(t.Context(), chromedp.WithAllocatorOptions(
		chromedp.ExecPath(program), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("force-color-profile", "srgb"),
	))
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx), "the browser starts")
	return ctx
}

// open opens address in a new tab and waits for its first live frame.
func open(t *testing.T, browser context.Context, address string, l look, features ...*emulation.MediaFeature) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	ctx, cancelTimeout := context.WithTimeout(ctx, 10*time.Minute) // a guard against hanging, not a bar
	t.Cleanup(cancelTimeout)
	p := &tab{t: t, ctx: ctx}
	requests, console := chromedp.Events(ctx, network.RequestWillBeSent), chromedp.Console(ctx)
	go func() {
		for event, err := range requests {
			if err != nil {
				return
			}
			p.mu.Lock()
			p.requests = append(p.requests, event.Request.URL)
			p.mu.Unlock()
		}
	}()
	go func() {
		for message, err := range console {
			if err != nil {
				return
			}
			p.mu.Lock()
			p.messages = append(p.messages, message.String())
			p.mu.Unlock()
		}
	}()
	features = append(features, &emulation.MediaFeature{Name: "prefers-color-scheme", Value: l.scheme})
	require.NoError(t, chromedp.Do(ctx,
		chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
				return err
			}
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
			return err
		}),
		chromedp.EmulateViewport(l.width, l.height),
		chromedp.Navigate(address),
	))
	p.wait(`document.documentElement.dataset.frame > 0`)
	return p
}

// wait waits until the expression is true on the page.
func (p *tab) wait(expression string) {
	p.t.Helper()
	_, err := chromedp.Run(
		p.ctx,
		chromedp.Poll[bool](
			"!!("+expression+")",
			chromedp.WithPollingInterval(50*time.Millisecond),
			chromedp.WithPollingTimeout(5*time.Minute),
		),
	)
	require.NoError(p.t, err, "waiting for %s", expression)
}

func (p *tab) text(expression string) string {
	p.t.Helper()
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](expression))
	require.NoError(p.t, err, expression)
	return text
}

func (p *tab) do(expression string) {
	p.t.Helper()
	_, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("("+expression+", true)"))
	require.NoError(p.t, err, expression)
}

// problems runs the audit: clipped or covered labels, lines across texts, and
// contrasts below 4.5:1.
func (p *tab) problems() []string {
	p.t.Helper()
	found, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]string](audit))
	require.NoError(p.t, err)
	return found
}

// picture keeps a screenshot as an artifact.
func (p *tab) picture(name string) {
	p.t.Helper()
	image, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	require.NoError(p.t, err)
	dir := filepath.Join("..", "..", "..", "artifacts")
	require.NoError(p.t, os.MkdirAll(dir, 0o755))
	require.NoError(p.t, os.WriteFile(filepath.Join(dir, name+".png"), image, 0o644))
}

// clean fails on anything on the console, and on any request to elsewhere.
func (p *tab) clean(address string) {
	p.t.Helper()
	home, err := url.Parse(address)
	require.NoError(p.t, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(p.t, p.messages, "the console")
	require.NotEmpty(p.t, p.requests)
	for _, asked := range p.requests {
		if strings.HasPrefix(asked, "data:") {
			continue
		}
		to, err := url.Parse(asked)
		require.NoError(p.t, err)
		require.Equal(p.t, home.Host, to.Host, "a request to elsewhere: %s", asked)
		require.True(p.t, strings.HasPrefix(to.Path, home.Path), "a request out of the page's prefix: %s", asked)
	}
}

func (l look) String() string { return fmt.Sprintf("%s %dx%d", l.name, l.width, l.height) }
