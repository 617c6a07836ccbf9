package programs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/component/componenttest"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/programs"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// A deployment is all programs in this process, as an operator would set them up.
type deployment struct {
	at  map[component.Role]component.Addresses
	log *logs
}

// deploy runs all programs until the test ends. The environment is every
// program's, on top of free ports.
func deploy(t *testing.T, env map[string]string) *deployment {
	t.Helper()
	d := &deployment{at: map[component.Role]component.Addresses{}, log: new(logs)}
	out := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { stop(); running.Wait() })
	for _, role := range component.Roles {
		own := map[string]string{
			"ENABLE_FLOWCTL": "true", "FLIGHT_PORT": "0", "HEALTH_PORT": "0", "LEDGER_COUNT": "4", "OUT_DIR": out,
			"FLOWCTL_ENDPOINT": d.at[component.RoleControlPlane].Flight, "FLOWCTL_COMPONENT_ID": string(role),
			"LOG_LEVEL": "debug",
		}
		maps.Copy(own, env)
		p := process(own)
		ready, ended := make(chan component.Addresses, 1), make(chan error, 1)
		p.Ready, p.Log = func(a component.Addresses) { ready <- a }, d.log
		running.Go(func() {
			err := programs.All()[role](ctx, p)
			ended <- err
			if err != nil && ctx.Err() == nil {
				t.Errorf("%s ended: %v", role, err)
			}
		})
		select {
		case d.at[role] = <-ready:
		case err := <-ended:
			t.Fatalf("%s: %v\n%s", role, err, d.log)
		}
	}
	return d
}

// dial connects to a program's gRPC port.
func (d *deployment) dial(t *testing.T, role component.Role, secure credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+d.at[role].Flight, grpc.WithTransportCredentials(secure))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// identity is the client side of mutual TLS with what the files hold now.
func identity(t *testing.T, f componenttest.Files) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	require.NoError(t, err)
	cfg := trusting(t, f)
	cfg.Certificates = []tls.Certificate{pair}
	return cfg
}

// trusting is a client without a certificate.
func trusting(t *testing.T, f componenttest.Files) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(f.CA)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pem))
	return &tls.Config{RootCAs: pool}
}

func as(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func setDelay(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := flight.NewClientFromConn(conn, nil).DoAction(ctx, &flight.Action{
		Type: sink.ActionSetDelay,
		Body: []byte("0s"),
	})
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(name, []byte(text+"\n"), 0o600))
	return name
}

// With the three variables and a token every port of every program wants both,
// the pipeline works as before, and changes want more.
func TestMutualTLSAndTokenOnEveryPort(t *testing.T) {
	authority := componenttest.NewAuthority(t)
	names := []string{"localhost"}
	for _, role := range component.Roles {
		names = append(names, string(role))
	}
	files := authority.Issue(t, t.TempDir(), names...)
	env := files.Env()
	env["AUTH_TOKEN_FILE"] = secretFile(t, "may-read-0123456789")
	env["AUTH_ADMIN_TOKEN_FILE"] = secretFile(t, "may-change-0123456789")
	d := deploy(t, env)

	mine := identity(t, files)
	for _, role := range component.Roles {
		t.Run(string(role), func(t *testing.T) {
			call := func(secure credentials.TransportCredentials, token string) error {
				conn := d.dial(t, role, secure)
				ctx := t.Context()
				if token != "" {
					ctx = as(ctx, token)
				}
				if role == component.RoleControlPlane { // any of its methods: authentication comes first
					err := conn.Invoke(ctx, "/flowctl.ControlPlane/ListServices", &grpc_health_v1.HealthCheckRequest{},
						&grpc_health_v1.HealthCheckResponse{})
					if status.Code(err) == codes.Unimplemented {
						return nil
					}
					return err
				}
				stream, err := flight.NewClientFromConn(conn, nil).ListActions(ctx, &flight.Empty{})
				if err == nil {
					_, err = stream.Recv()
				}
				return err
			}
			require.NoError(t, call(credentials.NewTLS(mine), "may-read-0123456789"))
			require.NoError(t, call(credentials.NewTLS(mine), "may-change-0123456789"))
			require.Equal(t, codes.Unauthenticated, status.Code(call(credentials.NewTLS(mine), "")))
			require.Equal(t, codes.Unauthenticated, status.Code(call(credentials.NewTLS(mine), "guess")))
			require.Equal(t, codes.Unavailable, status.Code(call(insecure.NewCredentials(), "may-read-0123456789")), "plaintext")
			require.Equal(t, codes.Unavailable, status.Code(call(credentials.NewTLS(trusting(t, files)),
				"may-read-0123456789")), "no certificate")
			stranger := identity(t, componenttest.NewAuthority(t).Issue(t, t.TempDir(), "stranger"))
			stranger.RootCAs = mine.RootCAs
			require.Equal(t, codes.Unavailable, status.Code(call(credentials.NewTLS(stranger), "may-read-0123456789")),
				"of another authority")
			old := mine.Clone()
			old.MaxVersion = tls.VersionTLS12
			require.Equal(t, codes.Unavailable, status.Code(call(credentials.NewTLS(old), "may-read-0123456789")), "TLS 1.2")

			health, err := grpc_health_v1.NewHealthClient(d.dial(t, role, credentials.NewTLS(mine))).Check(t.Context(),
				&grpc_health_v1.HealthCheckRequest{})
			require.NoError(t, err, "health needs no token")
			require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, health.Status)

			at := "https://" + d.at[role].HTTP
			require.Equal(t, 200, get(t, mine, at+"/metrics", "may-read-0123456789"))
			require.Equal(t, 401, get(t, mine, at+"/metrics", ""))
			require.Equal(t, 401, get(t, mine, at+"/health", "guess"))
			require.Equal(t, 403, get(t, trusting(t, files), at+"/metrics", "may-read-0123456789"))
			require.Equal(t, 200, get(t, trusting(t, files), at+"/livez", ""), "a probe has no certificate")
			require.Equal(t, 403, get(t, trusting(t, files), at+"/livez/../metrics", ""))
			require.Equal(t, 400, get(t, nil, "http://"+d.at[role].HTTP+"/livez", ""), "plaintext")
		})
	}

	conn := d.dial(t, component.RoleSink, credentials.NewTLS(mine))
	require.Equal(t, codes.PermissionDenied, status.Code(setDelay(as(t.Context(), "may-read-0123456789"), conn)))
	require.NoError(t, setDelay(as(t.Context(), "may-change-0123456789"), conn))
	require.NotContains(t, d.log.String(), "0123456789", "no token in any log line")
}

// A certificate that was renewed is used by the next connection, in both
// directions; one that is damaged is not, and the old one stays.
func TestCertificatesAreRenewedWithoutRestart(t *testing.T) {
	dir := t.TempDir()
	authority := componenttest.NewAuthority(t)
	files := authority.Issue(t, dir, "localhost")
	d := deploy(t, withAdmin(files.Env(), "localhost"))
	shown := func(cfg *tls.Config) (serials []string) {
		for _, role := range component.Roles {
			for _, address := range []string{d.at[role].Flight, d.at[role].HTTP} {
				cfg := cfg.Clone()
				cfg.NextProtos = []string{"h2", "http/1.1"}
				conn, err := tls.Dial("tcp", address, cfg)
				require.NoError(t, err, "%s\n%s", address, d.log)
				serials = append(serials, conn.ConnectionState().PeerCertificates[0].SerialNumber.String())
				conn.Close()
			}
		}
		return serials
	}
	first := identity(t, files)
	of := func(cfg *tls.Config) (serials []string) {
		leaf, err := x509.ParseCertificate(cfg.Certificates[0].Certificate[0])
		require.NoError(t, err)
		for range 2 * len(component.Roles) {
			serials = append(serials, leaf.SerialNumber.String())
		}
		return serials
	}
	require.Equal(t, of(first), shown(first))

	authority.Issue(t, dir, "localhost")
	second := identity(t, files)
	require.NotEqual(t, of(first), of(second))
	require.Equal(t, of(second), shown(first), "a client with the old certificate of the same authority")

	require.NoError(t, os.WriteFile(files.Key, []byte("damaged"), 0o600))
	require.Equal(t, of(second), shown(second))
	require.Contains(t, d.log.String(), "cannot be used")

	componenttest.NewAuthority(t).Issue(t, dir, "localhost")
	third := identity(t, files)
	require.Equal(t, of(third), shown(third))
	conn := d.dial(t, component.RoleSource, credentials.NewTLS(second))
	_, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err), "the old authority is trusted no more")
}

func withAdmin(env map[string]string, admin string) map[string]string {
	env["AUTH_ADMINS"] = admin
	return env
}

// A certificate of an admin has the right to change things, another has not.
func TestChangesByCertificate(t *testing.T) {
	authority := componenttest.NewAuthority(t)
	files := authority.Issue(t, t.TempDir(), "operations")
	d := deploy(t, withAdmin(files.Env(), "operations"))
	reader := authority.Issue(t, t.TempDir(), "reader")
	require.NoError(t, setDelay(t.Context(), d.dial(t, component.RoleSink, credentials.NewTLS(identity(t, files)))))
	err := setDelay(t.Context(), d.dial(t, component.RoleSink, credentials.NewTLS(identity(t, reader))))
	require.Equal(t, codes.PermissionDenied, status.Code(err))
}

// Without any set-up the programs serve loopback, in plaintext, and nobody changes
// anything.
func TestWithoutSetUpNobodyChangesAnything(t *testing.T) {
	d := deploy(t, nil)
	for _, role := range component.Roles {
		require.Equal(t, 200, get(t, nil, "http://"+d.at[role].HTTP+"/metrics", ""))
	}
	err := setDelay(t.Context(), d.dial(t, component.RoleSink, insecure.NewCredentials()))
	require.Equal(t, codes.PermissionDenied, status.Code(err))
}

// Plaintext beyond loopback is a mistake, unless it is allowed by name; then it is
// warned about.
func TestPlaintextBeyondLoopback(t *testing.T) {
	for name, tc := range map[string]struct {
		role component.Role
		env  map[string]string
		want string
	}{
		"control plane": {
			component.RoleControlPlane,
			map[string]string{"LISTEN_HOST": "0.0.0.0"},
			`LISTEN_HOST="0.0.0.0" is not accepted: want a loopback address`,
		},
		"source": {component.RoleSource, map[string]string{"LISTEN_HOST": "192.0.2.1"}, `LISTEN_HOST="192.0.2.1"`},
		"its control plane": {
			component.RoleSource,
			map[string]string{"ENABLE_FLOWCTL": "true", "FLOWCTL_ENDPOINT": "control:8080"},
			`FLOWCTL_ENDPOINT="control:8080" is not accepted: want a loopback address`,
		},
		"its RPC server": {
			component.RoleSource,
			map[string]string{"LEDGER_SOURCE": "rpc", "RPC_URL": "http://rpc.example.com/key-0123456789abcdef"},
			`RPC_URL="http://rpc.example.com[secret]" is not accepted: want https://`,
		},
		"processor": {
			component.RoleProcessor,
			map[string]string{"SOURCE_ENDPOINT": "source:8815"},
			`SOURCE_ENDPOINT="source:8815"`,
		},
		"sink": {
			component.RoleSink,
			map[string]string{"PROCESSOR_ENDPOINT": "192.0.2.1:8816"},
			`PROCESSOR_ENDPOINT="192.0.2.1:8816"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := programs.All()[tc.role](t.Context(), process(tc.env))
			require.Equal(t, component.ExitUsage, component.ExitCode(err), "%v", err)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "ALLOW_PLAINTEXT=true")
		})
	}
	d := deploy(t, map[string]string{"LISTEN_HOST": "::", "ALLOW_PLAINTEXT": "true", "ADVERTISE_HOST": "localhost"})
	require.Contains(t, d.log.String(), "gRPC and HTTP are plaintext beyond loopback")
}

// get returns the status of an answer.
func get(t *testing.T, secure *tls.Config, url, token string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{TLSClientConfig: secure}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	return answer.StatusCode
}

// logs are log lines of several programs.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A reader that does not read does not keep a program from ending: its stream is
// cut off after the grace.
func TestTheGraceBoundsTheEnd(t *testing.T) {
	drain, ready, log := make(chan struct{}), make(chan component.Addresses, 1), new(logs)
	p := process(map[string]string{"LEDGER_COUNT": "200", "FLIGHT_PORT": "0", "HEALTH_PORT": "0", "DRAIN_GRACE": "0s"})
	p.Drain, p.Log, p.Ready = drain, log, func(a component.Addresses) { ready <- a }
	ended := make(chan error, 1)
	go func() { ended <- programs.All()[component.RoleSource](t.Context(), p) }()
	d := &deployment{at: map[component.Role]component.Addresses{component.RoleSource: <-ready}}
	client := flight.NewClientFromConn(d.dial(t, component.RoleSource, insecure.NewCredentials()), nil)
	all := ledgers.Ticket{Flight: ledgers.FlightName, Range: ledgers.Range{
		First: ledgers.SampleFirst,
		Last:  ledgers.SampleFirst + 199,
	}}
	stream, err := client.DoGet(t.Context(), &flight.Ticket{Ticket: all.Marshal()})
	require.NoError(t, err)
	_, err = stream.Recv() // and then no more
	require.NoError(t, err)
	close(drain)
	require.NoError(t, <-ended)
	require.Contains(t, log.String(), "streams were cut off")
}
