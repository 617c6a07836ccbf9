package component

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"

	"google.golang.org/grpc/status"
)

// maxText bounds one text of a log line or an error, whatever a client sent.
const maxText = 1024

// A Redactor takes secrets out of texts. It is the one place that knows them:
// logs, errors, statuses and reports all pass it. The zero value knows none.
//
// It is safe for concurrent use.
type Redactor struct {
	mu      sync.RWMutex
	secrets []string
}

// shortest is the length from which on a text is a secret: shorter ones would
// take ordinary words apart.
const shortest = 4

// Add makes text a secret.
func (r *Redactor) Add(text string) {
	if len(text) < shortest {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets = append(r.secrets, text)
}

// AddURL makes everything of a URL behind its host a secret, as a whole and in
// parts, and who logs in there.
func (r *Redactor) AddURL(text string) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		r.Add(text)
		return
	}
	if _, userinfo, ok := strings.Cut(text, "//"); ok && u.User != nil {
		userinfo, _, _ = strings.Cut(userinfo, "@")
		r.Add(userinfo)
	}
	password, _ := u.User.Password()
	r.Add(password)
	for _, values := range u.Query() {
		for _, value := range values {
			r.Add(value)
			r.Add(url.QueryEscape(value))
		}
	}
	r.Add(u.RawQuery)
	r.Add(u.RequestURI())
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		if len(segment) >= 16 { // a key, and not a word such as "soroban"
			r.Add(segment)
		}
	}
}

// Replace returns text without secrets.
func (r *Redactor) Replace(text string) string {
	if r == nil {
		return text
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, secret := range r.secrets {
		text = strings.ReplaceAll(text, secret, "[secret]")
	}
	return text
}

// Text returns text without secrets and, of a longer one, its first 1 KiB.
func (r *Redactor) Text(text string) string { return clip(r.Replace(text), maxText) }

// Error returns err with a text without secrets. Its causes stay.
func (r *Redactor) Error(err error) error {
	if err == nil {
		return nil
	}
	text := r.Replace(err.Error())
	if text == err.Error() {
		return err
	}
	return &redactedError{err, text}
}

type redactedError struct {
	error
	text string
}

func (e *redactedError) Error() string { return e.text }

// Unwrap returns the error with its own text.
func (e *redactedError) Unwrap() error { return e.error }

// status is [Redactor.Error] for what a call ends with; its text is bounded, too.
func (r *Redactor) status(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok || r.Text(s.Message()) == s.Message() {
		return err
	}
	clean := s.Proto()
	clean.Message = r.Text(clean.GetMessage())
	return status.ErrorProto(clean)
}

// attr is a slog.HandlerOptions.ReplaceAttr.
func (r *Redactor) attr(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(r.Text(a.Value.String()))
	case slog.KindAny:
		if _, level := a.Value.Any().(slog.Level); !level {
			a.Value = slog.StringValue(r.Text(fmt.Sprint(a.Value.Any())))
		}
	}
	return a
}

// clip cuts text off after n bytes, and says so.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + fmt.Sprintf("… (%d bytes)", len(text))
}
