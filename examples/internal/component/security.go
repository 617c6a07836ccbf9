package component

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Security is who may talk to a program, and how it talks to others. The zero
// value is plaintext on loopback, open to this machine, changed by nobody.
type Security struct {
	// Token is what every call and every HTTP request must carry, and what the
	// program's own calls carry; empty: none.
	Token string
	// AdminToken is what changes must carry; empty: Token.
	AdminToken string
	// Admins are names in client certificates that may make changes, too.
	Admins []string
	// AllowPlaintext permits plaintext beyond loopback.
	AllowPlaintext bool

	keys *keyring // nil: plaintext
}

// ReadSecurity reads who may talk to a program that listens on host.
func ReadSecurity(e *Env, host string) Security {
	certificate := e.String("TLS_CERTIFICATE", "",
		"PEM file of the certificate; switches TLS on, on every port and connection")
	key := e.String("TLS_KEY", "", "PEM file of its key")
	authorities := e.String("TLS_CA", "",
		"PEM file of the authorities of others; switches mutual TLS on; unset: the system's, and clients need no certificate")
	s := Security{
		Token: e.SecretFile("AUTH_TOKEN_FILE", "file with the bearer token of every call and request, in and out"),
		AdminToken: e.SecretFile("AUTH_ADMIN_TOKEN_FILE",
			"file with the bearer token of changes; unset: that of AUTH_TOKEN_FILE"),
		Admins:         e.List("AUTH_ADMINS", "names in client certificates that may make changes"),
		AllowPlaintext: e.Bool("ALLOW_PLAINTEXT", false, "permit plaintext beyond loopback"),
	}
	switch {
	case certificate == "" && key == "" && authorities == "":
		if !s.AllowPlaintext && !isLoopback(host) {
			e.Reject("LISTEN_HOST", host, "a loopback address, or TLS_CERTIFICATE and TLS_KEY, or ALLOW_PLAINTEXT=true")
		}
	case certificate == "":
		e.Reject("TLS_CERTIFICATE", certificate, "a file, with TLS_KEY or TLS_CA")
	case key == "":
		e.Reject("TLS_KEY", key, "a file, with TLS_CERTIFICATE or TLS_CA")
	default:
		var err error
		if s.keys, err = openKeyring(certificate, key, authorities); err != nil {
			e.Reject("TLS_CERTIFICATE", certificate, "PEM files that can be used: "+err.Error())
		}
	}
	if len(s.Admins) > 0 && authorities == "" {
		e.Reject("AUTH_ADMINS", strings.Join(s.Admins, ","), "none without TLS_CA: clients show no certificates")
	}
	return s
}

// SecretFile reads a file with one secret, which appears nowhere again.
func (e *Env) SecretFile(name, help string) string {
	return read(e, name, "", "a file with a token", help, "", func(file string) (string, bool) {
		text, err := os.ReadFile(file)
		secret := strings.TrimSpace(string(text))
		e.hidden.Add(secret)
		return secret, err == nil && secret != "" && !strings.ContainsAny(secret, " \t\r\n")
	})
}

// List reads names that are separated by commas.
func (e *Env) List(name, help string) []string {
	return read(e, name, "", "names, separated by commas", help, nil, func(s string) (names []string, ok bool) {
		for n := range strings.SplitSeq(s, ",") {
			names = append(names, strings.TrimSpace(n))
		}
		return names, !slices.Contains(names, "")
	})
}

// isLoopback says whether what is sent to host stays on this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Warn logs what is plaintext beyond loopback, and gives the logger to what is
// logged later.
func (s Security) Warn(log *slog.Logger, host string) {
	switch {
	case s.keys != nil:
		s.keys.logTo(log)
	case !isLoopback(host):
		log.Warn("gRPC and HTTP are plaintext beyond loopback, as ALLOW_PLAINTEXT permits: "+
			"anybody on the network can read it", "host", host)
	}
}

// Scheme is that of the program's HTTP port.
func (s Security) Scheme() string {
	if s.keys != nil {
		return "https"
	}
	return "http"
}

// mutual says whether clients have to show a certificate.
func (s Security) mutual() bool { return s.keys != nil && s.keys.files[2] != "" }

// ServerTLS secures a gRPC server; nil is plaintext.
func (s Security) ServerTLS() *tls.Config {
	if s.keys == nil {
		return nil
	}
	return s.keys.server(tls.RequireAndVerifyClientCert, "h2")
}

// ListenHTTP secures an HTTP port. A client without a certificate gets as far as
// [Security.Guard], because probes have none.
func (s Security) ListenHTTP(inner net.Listener) net.Listener {
	if s.keys == nil {
		return inner
	}
	return tls.NewListener(inner, s.keys.server(tls.VerifyClientCertIfGiven, "http/1.1"))
}

// credentials are those of connections to others.
func (s Security) credentials() credentials.TransportCredentials {
	if s.keys == nil {
		return insecure.NewCredentials()
	}
	return clientCredentials{s.keys}
}

// perCall are the options that add the token to calls.
func (s Security) perCall() []grpc.DialOption {
	if s.Token == "" {
		return nil
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(bearer{s.Token, s.keys != nil})}
}

// DialOptions are those of a connection to another program. What a name server
// says about its service config is not asked for.
func (s Security) DialOptions() []grpc.DialOption {
	return append(s.perCall(), grpc.WithTransportCredentials(s.credentials()), grpc.WithDisableServiceConfig())
}

// HTTPClient asks other programs over HTTP.
func (s Security) HTTPClient(timeout time.Duration) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if s.keys != nil {
		transport.DialTLSContext = s.keys.dial
	}
	return &http.Client{Timeout: timeout, Transport: withToken{transport, s.Token}}
}

type withToken struct {
	next  http.RoundTripper
	token string
}

func (t withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+t.token)
	}
	return t.next.RoundTrip(r)
}

// Permits says why a program may not talk to endpoint, a host:port, if it may
// not: what is sent beyond this machine is encrypted, unless plaintext is allowed.
func (s Security) Permits(endpoint string) error {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil || s.keys != nil || s.AllowPlaintext || isLoopback(host) {
		return nil // a text that is no endpoint fails elsewhere
	}
	return fmt.Errorf("%s is beyond loopback, and the connection would be plaintext: "+
		"set TLS_CERTIFICATE and TLS_KEY, or ALLOW_PLAINTEXT=true", endpoint)
}

// PermitsURL is [Security.Permits] for a URL.
func (s Security) PermitsURL(text string) bool {
	u, err := url.Parse(text)
	return err != nil || u.Scheme != "http" || s.AllowPlaintext || isLoopback(u.Hostname())
}

// A bearer is a token as credentials of each call.
type bearer struct {
	token  string
	secure bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.secure }

// is says whether given is one of the tokens. An empty token is none. It takes
// the same time whatever was guessed right.
func is(given string, tokens ...string) bool {
	found := 0
	for _, token := range tokens {
		if token != "" {
			found |= subtle.ConstantTimeCompare([]byte(given), []byte(token))
		}
	}
	return found == 1
}

// tokenOf is the bearer token of a call, if it has one.
func tokenOf(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, value := range md.Get("authorization") {
		if token, ok := strings.CutPrefix(value, "Bearer "); ok {
			return token
		}
	}
	return ""
}

// MayCall rejects a call without the token with UNAUTHENTICATED. Health checks
// need none: those who make them have none. Certificates were verified before.
func (s Security) MayCall(ctx context.Context, method string) error {
	if s.Token == "" || strings.HasPrefix(method, "/grpc.health.v1.Health/") || is(tokenOf(ctx), s.Token, s.AdminToken) {
		return nil
	}
	return status.Error(codes.Unauthenticated, "a bearer token is wanted")
}

// MayChange rejects a call that changes something with PERMISSION_DENIED, unless
// its caller has the right to: the admin token, or a certificate of an admin.
// Without either nobody has.
func (s Security) MayChange(ctx context.Context) error {
	token := s.AdminToken
	if token == "" {
		token = s.Token
	}
	if is(tokenOf(ctx), token) || s.isAdmin(ctx) {
		return nil
	}
	return status.Error(codes.PermissionDenied,
		"changes need the token of AUTH_ADMIN_TOKEN_FILE, or a certificate of one of AUTH_ADMINS")
}

func (s Security) isAdmin(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return false
	}
	leaf := info.State.VerifiedChains[0][0]
	return slices.ContainsFunc(s.Admins, func(admin string) bool {
		return leaf.Subject.CommonName == admin || slices.Contains(leaf.DNSNames, admin)
	})
}

// probes are what a probe asks, without certificate and token. They say nothing
// but whether the program serves.
var probes = []string{"/livez", "/readyz"}

// Guard serves next to those who may read it: with the token, as a bearer or as
// the password of a browser, and with mutual TLS with a certificate. Probes need
// neither.
func (s Security) Guard(next http.Handler) http.Handler {
	if s.Token == "" && !s.mutual() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case slices.Contains(probes, r.URL.Path):
		case s.mutual() && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0):
			http.Error(w, "a client certificate is wanted", http.StatusForbidden)
			return
		case s.Token != "" && !is(httpToken(r), s.Token, s.AdminToken):
			w.Header().Set("WWW-Authenticate", `Basic realm="the token is the password"`)
			http.Error(w, "a bearer token is wanted", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func httpToken(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return token
	}
	_, password, _ := r.BasicAuth()
	return password
}
