package runner

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// EnvPrefix begins the environment twin of every flag: -sink-delay is
// PIPELINE_SINK_DELAY. A flag wins over its twin.
const EnvPrefix = "PIPELINE_"

// Options are what the pipeline's user chooses.
type Options struct {
	Ledgers uint32
	// LedgersSet says that Ledgers was asked for: a run that is continued
	// otherwise keeps its own number.
	LedgersSet bool
	Out        string
	Format     string
	Source     string
	Serve      bool
	Resume     string // a run folder, "last", or empty for a new run
	Summary    string
	Ports      Ports
	InProcess  bool
	SinkDelay  time.Duration
	Verify     bool
	LogLevel   string
	LogFormat  string
}

const usage = `pipeline runs the whole reference pipeline: a control plane, a source of Stellar
ledgers, a processor that extracts token-transfer events, and a sink that writes
them to files, each as a process of its own. It ends when the input does.

  go run ./examples/pipeline                       200 real ledgers into ./sluice-out
  go run ./examples/pipeline -sink-delay 50ms      the same with a slow sink, to see backpressure
  go run ./examples/pipeline -resume               goes on where the last run was stopped

Ctrl-C drains and ends; a second one stops at once. Every flag has an
environment twin: -sink-delay is PIPELINE_SINK_DELAY. The components also read
the variables that their own -h lists (go run ./examples/stellar-arrow-source -h).

`

// ParseOptions reads the flags and their environment twins. [flag.ErrHelp]
// means that help was asked for and was written to output. Any other error
// names everything that was refused, and its user should exit with status 2.
func ParseOptions(args []string, lookup func(string) (string, bool), output io.Writer) (Options, error) {
	var o Options
	set := flags(&o)
	errs := readTwins(set, lookup)
	for rest := args; ; rest = set.Args() { // after a mistake, Parse goes on behind it
		err := set.Parse(rest)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(output, usage)
			set.SetOutput(output)
			set.PrintDefaults()
			return o, flag.ErrHelp
		}
		if err == nil {
			break
		}
		errs = append(errs, err)
	}
	if set.NArg() > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q: every option is a flag, see -h", set.Arg(0)))
	}
	_, inEnv := lookup(EnvPrefix + "LEDGERS")
	o.LedgersSet = inEnv
	set.Visit(func(f *flag.Flag) { o.LedgersSet = o.LedgersSet || f.Name == "ledgers" })
	return o, errors.Join(errs...)
}

// flags are the pipeline's, with their defaults.
func flags(o *Options) *flag.FlagSet {
	o.Ports = DefaultPorts()
	set := flag.NewFlagSet("pipeline", flag.ContinueOnError)
	set.SetOutput(io.Discard) // errors are returned, once, with all others

	define(set, "ledgers", "`N` ledgers to run", ledgerCount{&o.Ledgers}, "200")
	set.StringVar(&o.Out, "out", "./sluice-out", "each run writes a new folder below `DIR`")
	define(set, "format", "`form` of the files: parquet, jsonl or csv", word{&o.Format, sink.Formats}, sink.Parquet)
	define(
		set,
		"source",
		"`where` ledgers come from: sample (two real ones, shipped), datalake or rpc",
		word{&o.Source, []string{"sample", "datalake", "rpc"}},
		"sample",
	)
	set.BoolVar(&o.Serve, "serve", false, "stay up after the input ends, until Ctrl-C")
	define(set, "resume", "continue the last run below -out, or with -resume=DIR that one", resume{&o.Resume}, "")
	define(set, "summary", "`form` of the summary: text or json", word{&o.Summary, []string{"text", "json"}}, "text")
	define(
		set,
		"ports",
		"auto for free `ports`, or NAME=PORT,… with the names "+strings.Join(PortNames(), ", "),
		&o.Ports,
		"",
	)
	set.BoolVar(&o.InProcess, "inprocess", false, "run the components in this process instead of as children")
	define(set, "sink-delay", "let the sink wait this `DURATION` for every batch", delay{&o.SinkDelay}, "0s")
	set.BoolVar(&o.Verify, "verify", true, "read the files back and compare every event with the SDK run directly")
	define(
		set,
		"log-level",
		"least `level` that is logged: debug, info, warn or error",
		word{&o.LogLevel, []string{"debug", "info", "warn", "error"}},
		"warn",
	)
	define(set, "log-format", "`form` of log lines: text or json", word{&o.LogFormat, []string{"text", "json"}}, "text")
	return set
}

// VisitFlags visits the pipeline's flags, in the order of their names, and the
// environment variable of each.
func VisitFlags(visit func(f *flag.Flag, variable string)) {
	flags(new(Options)).VisitAll(func(f *flag.Flag) { visit(f, twin(f.Name)) })
}

// Twins are the environment variables that the pipeline itself reads.
func Twins() (names []string) {
	VisitFlags(func(_ *flag.Flag, variable string) { names = append(names, variable) })
	return names
}

// ownWay are the variables of programs that the pipeline sets itself, and how its
// user does.
var ownWay = map[string]string{
	"ENABLE_FLOWCTL": "its components always have a control plane", "FLOWCTL_ENDPOINT": "-ports chooses the port of its control plane",
	"FLOWCTL_COMPONENT_ID": "its components have their own ids", "FLIGHT_PORT": "use -ports", "HEALTH_PORT": "use -ports",
	"LEDGER_SOURCE": "use -source", "LEDGER_COUNT": "use -ledgers", "OUT_DIR": "use -out", "OUT_FORMAT": "use -format",
	"SINK_DELAY": "use -sink-delay", "LOG_LEVEL": "use -log-level", "LOG_FORMAT": "use -log-format",
}

// Overridden returns a sentence for each variable of environ, NAME=VALUE pairs,
// that has no effect on the pipeline though its components read it.
func Overridden(environ []string) (sentences []string) {
	for name, way := range ownWay {
		if value, ok := lookupIn(environ)(name); ok && value != "" {
			sentences = append(sentences, fmt.Sprintf("%s is set, and the pipeline sets it itself: %s", name, way))
		}
	}
	slices.Sort(sentences)
	return sentences
}

// twin is the environment variable of a flag.
func twin(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// readTwins sets each flag from its environment twin.
func readTwins(set *flag.FlagSet, lookup func(string) (string, bool)) (errs []error) {
	set.VisitAll(func(f *flag.Flag) {
		name := twin(f.Name)
		if text, ok := lookup(name); ok && text != "" {
			if err := set.Set(f.Name, text); err != nil {
				errs = append(
					errs,
					&component.EnvError{Name: name, Value: text, Accepted: "what -" + f.Name + " takes: " + err.Error()},
				)
			}
		}
	})
	return errs
}

func define(set *flag.FlagSet, name, help string, v flag.Value, fallback string) {
	if fallback != "" {
		if err := v.Set(fallback); err != nil {
			panic("runner: default of -" + name + ": " + err.Error())
		}
	}
	set.Var(v, name, help)
}

// The values below refuse what they cannot use with what they accept.

type word struct {
	to       *string
	accepted []string
}

func (w word) String() string { return deref(w.to) }

func (w word) Set(s string) error {
	if !slices.Contains(w.accepted, s) {
		return fmt.Errorf("want one of %s", strings.Join(w.accepted, ", "))
	}
	*w.to = s
	return nil
}

type ledgerCount struct{ to *uint32 }

func (c ledgerCount) String() string { return fmt.Sprint(deref(c.to)) }

func (c ledgerCount) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 || n > math.MaxInt32 {
		return fmt.Errorf("want a whole number from 1 to %d", math.MaxInt32)
	}
	*c.to = uint32(n)
	return nil
}

type delay struct{ to *time.Duration }

func (d delay) String() string { return deref(d.to).String() }

func (d delay) Set(s string) (err error) {
	*d.to, err = sink.ParseDelay(s)
	return err
}

// resume is a flag that works with and without a value.
type resume struct{ to *string }

// LastRun as Options.Resume means the newest run folder.
const LastRun = "last"

func (r resume) IsBoolFlag() bool { return true }

func (r resume) String() string { return deref(r.to) }

func (r resume) Set(s string) error {
	switch s {
	case "true":
		s = LastRun
	case "false":
		s = ""
	}
	*r.to = s
	return nil
}

// deref reads what p points to; the flag package asks zero values for their
// text.
func deref[T any](p *T) T {
	var zero T
	return *cmp.Or(p, &zero)
}
