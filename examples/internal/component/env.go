package component

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Env reads a component's settings from environment variables and remembers
// everything that it rejected, so that the user sees all mistakes at once.
// A variable that is set but empty counts as unset. Every read also documents
// its variable, so that -h and the reader cannot disagree.
//
// An Env belongs to one goroutine.
type Env struct {
	lookup func(string) (string, bool)
	errs   []error
	docs   []Variable
	hidden Redactor
}

// An EnvError is one variable that was rejected.
type EnvError struct {
	Name, Value string
	Accepted    string // what would have been accepted, in words
}

func (e *EnvError) Error() string {
	return fmt.Sprintf("%s=%q is not accepted: want %s", e.Name, clip(e.Value, maxValue), e.Accepted)
}

// A Variable is what one setting is: its default, what is accepted, and what it
// does, in words.
type Variable struct{ Name, Default, Accepted, Help string }

// Free says whether any text is accepted.
func (v Variable) Free() bool { return v.Accepted == anyText }

const anyText = "text"

// maxValue bounds what an error repeats of a variable's value.
const maxValue = 128

// Redactor knows every secret that was read so far, and that will be.
func (e *Env) Redactor() *Redactor { return &e.hidden }

// NewEnv returns a reader over lookup, which is os.LookupEnv in a program.
func NewEnv(lookup func(string) (string, bool)) *Env { return &Env{lookup: lookup} }

// Err returns everything rejected so far, joined, or nil.
func (e *Env) Err() error { return errors.Join(e.errs...) }

// Usage is Err as the usage error with which a program ends, or nil.
func (e *Env) Usage() error {
	if err := e.Err(); err != nil {
		return &UsageError{Err: err}
	}
	return nil
}

// Rejected lists what Err joins.
func (e *Env) Rejected() []error { return e.errs }

// Reject records that a variable's value cannot be used, for checks across
// several variables.
func (e *Env) Reject(name, value, accepted string) {
	e.errs = append(e.errs, &EnvError{Name: name, Value: value, Accepted: accepted})
}

// WriteHelp lists every variable read so far: name, default, what is accepted
// and what it does.
func (e *Env) WriteHelp(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range e.docs {
		fmt.Fprintf(t, "  %s\t%s\t%s (%s)\n", v.Name, v.Default, v.Help, v.Accepted)
	}
	return t.Flush()
}

// Variables lists what was read so far.
func (e *Env) Variables() []Variable { return e.docs }

// Names lists every variable read so far.
func (e *Env) Names() (names []string) {
	for _, v := range e.docs {
		names = append(names, v.Name)
	}
	return names
}

// String reads free text.
func (e *Env) String(name, fallback, help string) string {
	return read(e, name, fallback, anyText, help, fallback, func(s string) (string, bool) { return s, true })
}

// OneOf reads one of a closed set of words.
func (e *Env) OneOf(name, fallback, help string, accepted ...string) string {
	return read(e, name, fallback, "one of "+strings.Join(accepted, ", "), help, fallback, func(s string) (string, bool) {
		for _, a := range accepted {
			if strings.EqualFold(s, a) {
				return a, true
			}
		}
		return "", false
	})
}

// Bool reads true or false, in the spellings of [strconv.ParseBool].
func (e *Env) Bool(name string, fallback bool, help string) bool {
	return read(e, name, strconv.FormatBool(fallback), "true or false", help, fallback, func(s string) (bool, bool) {
		b, err := strconv.ParseBool(strings.ToLower(s))
		return b, err == nil
	})
}

// Int reads a whole number of at least low and at most high.
func (e *Env) Int(name string, fallback, low, high int, help string) int {
	accepted := fmt.Sprintf("a whole number from %d to %d", low, high)
	if high == math.MaxInt {
		accepted = fmt.Sprintf("a whole number of at least %d", low)
	}
	return read(e, name, strconv.Itoa(fallback), accepted, help, fallback, func(s string) (int, bool) {
		n, err := strconv.Atoi(s)
		return n, err == nil && n >= low && n <= high
	})
}

// Port reads a TCP port; 0 asks for any free one.
func (e *Env) Port(name string, fallback int, help string) int {
	return read(e, name, strconv.Itoa(fallback), "a port from 0 to 65535, 0 for any free one", help, fallback,
		func(s string) (int, bool) {
			n, err := strconv.ParseUint(s, 10, 16)
			return int(n), err == nil
		})
}

// Ledger reads a ledger sequence; unset is 0.
func (e *Env) Ledger(name string, fallback uint32, help string) uint32 {
	return read(e, name, strconv.FormatUint(uint64(fallback), 10), "a ledger sequence, 0 for unset", help, fallback,
		func(s string) (uint32, bool) {
			n, err := strconv.ParseUint(s, 10, 32)
			return uint32(n), err == nil
		})
}

// Duration reads a duration of at least low in Go's notation.
func (e *Env) Duration(name string, fallback, low time.Duration, help string) time.Duration {
	accepted := fmt.Sprintf("a duration of at least %v, such as 500ms, 10s or 5m", low)
	return read(e, name, fallback.String(), accepted, help, fallback, func(s string) (time.Duration, bool) {
		d, err := time.ParseDuration(s)
		return d, err == nil && d >= low
	})
}

// Share reads a share above 0 and at most 1.
func (e *Env) Share(name string, fallback float64, help string) float64 {
	return read(e, name, strconv.FormatFloat(fallback, 'g', -1, 64), "a number above 0 and at most 1, such as 0.8", help,
		fallback, func(s string) (float64, bool) {
			f, err := strconv.ParseFloat(s, 64)
			return f, err == nil && f > 0 && f <= 1
		})
}

// permits rejects an endpoint that may not be dialled.
func (e *Env) permits(s Security, name, endpoint string) {
	if err := s.Permits(endpoint); err != nil {
		e.Reject(name, endpoint, "a loopback address, or TLS_CERTIFICATE and TLS_KEY, or ALLOW_PLAINTEXT=true")
	}
}

// URL reads an http or https URL, of which nothing but scheme and host appears
// anywhere again: keys stand in the rest.
func (e *Env) URL(name, help string) string {
	return read(e, name, "", "a URL that begins with http:// or https://", help, "", func(s string) (string, bool) {
		e.hidden.AddURL(s)
		u, err := url.Parse(s)
		return s, err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
	})
}

// Endpoint reads the host:port of a server; unset is empty.
func (e *Env) Endpoint(name, fallback, help string) string {
	return read(e, name, fallback, "host:port, such as localhost:8815", help, fallback, func(s string) (string, bool) {
		host, port, err := net.SplitHostPort(s)
		if err != nil || host == "" {
			return "", false
		}
		n, err := strconv.ParseUint(port, 10, 16)
		return s, err == nil && n > 0
	})
}

// Upstream reads the endpoint of a server that is read: without a control plane
// to ask, its default is the role's documented port on this machine.
func (e *Env) Upstream(name string, role Role, c Config) string {
	endpoint := e.Endpoint(name, "",
		"Flight server to read; unset: found through the control plane, or on its usual port here")
	if endpoint == "" && !c.Flowctl {
		port, _ := role.DefaultPorts()
		endpoint = HostPort("localhost", port)
	}
	e.permits(c.Security, name, endpoint)
	return endpoint
}

// DeadLetters reads where ledgers go that cannot be used.
func DeadLetters(e *Env) string {
	return e.String("DEAD_LETTER_DIR", "",
		"folder for ledgers that cannot be read or extracted, which are left out then; unset: the first one ends the run")
}

// HostPort joins a host and a port.
func HostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// read is every getter: parse reports whether it accepts the text.
func read[T any](e *Env, name, shown, accepted, help string, fallback T, parse func(string) (T, bool)) T {
	e.docs = append(e.docs, Variable{name, shown, accepted, help})
	text, ok := e.lookup(name)
	text = strings.TrimSpace(text)
	if !ok || text == "" {
		return fallback
	}
	v, ok := parse(text)
	if !ok {
		e.Reject(name, e.hidden.Text(text), accepted)
		return fallback
	}
	return v
}
