package component

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// A Process is what a component gets from whoever started it: a program's main,
// the pipeline as its parent, or a test in the same process.
type Process struct {
	// Lookup reads an environment variable.
	Lookup func(string) (string, bool)
	// Log receives log lines.
	Log io.Writer
	// Drain is closed to ask for a clean end: finish what was accepted, then
	// return. The context of Run is for stopping at once. Nil never drains.
	Drain <-chan struct{}
	// Ready, when set, is called once, as soon as the component serves.
	Ready func(Addresses)
}

// Addresses are where a component serves, as others dial them.
type Addresses struct {
	Flight string `json:"flight"` // host:port of its gRPC server
	HTTP   string `json:"http"`   // host:port of its metrics and health
}

// A Run is a component: it serves until the process's Drain is closed and what
// it accepted is done, or until ctx ends.
type Run func(ctx context.Context, p Process) error

// A UsageError is a mistake in the configuration; programs exit with status 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// ExitCode is the status with which a program ends after err.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[*UsageError](err); ok {
		return ExitUsage
	}
	if e, ok := errors.AsType[*StatusError](err); ok {
		return e.Status
	}
	return ExitFailed
}

// What a process holds at most before its collector works harder, and how far its
// heap may grow between two collections: it leaves the rest of 300 MiB to garbage
// and to what is no heap. Extraction makes much garbage: the default of 100 percent
// would take a fifth of the pipeline's speed.
const (
	memoryGoal     = 200 << 20
	garbagePercent = 200
)

// BoundMemory sets both, unless GOMEMLIMIT and GOGC say otherwise. It belongs to
// the main function of a process.
func BoundMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryGoal)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
}

// Main runs one component as a program of its own and returns its exit status.
// The first interrupt or SIGTERM drains, the second stops at once. -h prints
// the environment variables that describe writes.
func Main(name, about string, run Run, describe func(*Env) any) int {
	if len(os.Args) > 1 {
		switch arg := os.Args[1]; arg {
		case "-h", "-help", "--help":
			help(os.Stdout, name, about, describe)
			return 0
		default:
			fmt.Fprintf(os.Stderr, "%s: unexpected argument %q: it is configured by its environment, see -h\n", name, arg)
			return 2
		}
	}
	BoundMemory()
	env := NewEnv(os.LookupEnv)
	describe(env) // what it rejects, run rejects
	Warn(os.Stderr, name, Misspelled(os.Environ(), env.Names()))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	drain := make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		close(drain)
		<-signals
		stop()
	}()
	return Exit(name, os.Stderr, env.Redactor().Error(run(ctx, Process{
		Lookup: os.LookupEnv, Log: os.Stderr,
		Drain: drain,
	})))
}

// Warn writes sentences that do not keep the program from running.
func Warn(w io.Writer, name string, sentences []string) {
	for _, sentence := range sentences {
		fmt.Fprintf(w, "%s: warning: %s\n", name, sentence)
	}
}

// Exit says on w why the program ends, if it does not end well, and returns its
// exit status.
func Exit(name string, w io.Writer, err error) int {
	if err != nil {
		fmt.Fprintf(w, "%s: %v\n", name, err)
	}
	return ExitCode(err)
}

func help(w io.Writer, name, about string, describe func(*Env) any) {
	fmt.Fprintf(w, "%s %s\n\nIt is configured by environment variables (name, default, meaning):\n\n", name, about)
	env := NewEnv(func(string) (string, bool) { return "", false })
	describe(env)
	_ = env.WriteHelp(w) // standard output is gone: nobody is left to tell
}

// NewLogger returns the logger that the configuration asks for.
func (c Config) NewLogger(w io.Writer) *slog.Logger {
	if w == nil {
		return slog.New(slog.DiscardHandler)
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // ReadConfig checked it
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: c.Secrets.attr}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options)).With("program", c.ID)
	}
	return slog.New(slog.NewTextHandler(w, options)).With("program", c.ID)
}

// AnnounceTo returns a Ready that writes the addresses as one JSON line, which
// is how a child tells its parent where it serves.
func AnnounceTo(w io.Writer) func(Addresses) {
	return func(a Addresses) {
		line, err := json.Marshal(a)
		if err != nil {
			panic("component: addresses do not marshal: " + err.Error())
		}
		_, _ = w.Write(append(line, '\n')) // the parent is gone: the drain follows
	}
}
