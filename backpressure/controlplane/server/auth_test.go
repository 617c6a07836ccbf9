package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
)

// authority issues certificates for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.key = a.newKey()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	return key
}

func (a *authority) issue(name string) tls.Certificate {
	key := a.newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve runs a control plane on TCP and returns its address.
func serve(t *testing.T, cfg server.Config, options ...grpc.ServerOption) (*server.Server, string) {
	s, err := server.New(cfg)
	require.NoError(t, err)
	g := grpc.NewServer(options...)
	s.Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); g.Serve(l) }()
	t.Cleanup(func() { s.Close(); g.Stop(); <-done })
	return s, l.Addr().String()
}

// runAgent runs an agent until it is coordinated or, where it is to stay alone,
// has been turned away. A call that a busy machine kept for too long is made again.
func runAgent(t *testing.T, cfg agent.Config, want backpressure.AgentMode) {
	cfg.Report = func() backpressure.Report { return backpressure.Report{MaxInFlight: 100} }
	cfg.MinBackoff, cfg.CallTimeout = 10*time.Millisecond, 2*time.Second
	a, err := agent.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	require.Eventually(t, func() bool {
		stats := a.Stats()
		if want == backpressure.Coordinated {
			return stats.Mode == backpressure.Coordinated
		}
		return stats.Reconnects["refused"]+stats.Reconnects["unreachable"] > 0
	}, time.Minute, 5*time.Millisecond)
	require.Equal(t, want, a.Mode())
}

func TestMutualTLSBindsAComponentToItsIdentity(t *testing.T) {
	ca := newAuthority(t)
	secure := credentials.NewTLS(
		&tls.Config{
			Certificates: []tls.Certificate{ca.issue("control-plane")},
			ClientCAs:    ca.pool,
			ClientAuth:   tls.RequireAndVerifyClientCert,
		},
	)
	s, address := serve(t, server.Config{Admins: []string{"operator"}}, grpc.Creds(secure))
	runAs := func(id, certificate string, want backpressure.AgentMode) {
		runAgent(
			t,
			agent.Config{
				Endpoint:  address,
				Component: controlplane.Component{ID: id},
				TLS:       &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue(certificate)}},
			},
			want,
		)
	}
	runAs("sink", "sink", backpressure.Coordinated)
	runAs("sink2", "sink", backpressure.Alone) // a thief
	require.Positive(t, s.Rejected()[server.NotYours])
	require.Len(t, s.Components(), 1)

	dial := func(name string) *grpc.ClientConn {
		conn, err := grpc.NewClient(
			address,
			grpc.WithTransportCredentials(
				credentials.NewTLS(&tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue(name)}}),
			),
		)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	_, err := flowctlv1pb.Client{Conn: dial("source")}.Heartbeat(
		t.Context(), &flowctlv1pb.HeartbeatRequest{ServiceId: "sink"},
	)
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	_, err = flowctlv1pb.Client{Conn: dial("source")}.UnregisterComponent(
		t.Context(), &flowctlv1pb.UnregisterRequest{ServiceId: "sink"},
	)
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	_, err = sluicepb.NewCoordinationClient(dial("sink")).
		UpdateSettings(t.Context(), &sluicepb.Settings{Activation: new(0.9)})
	require.Equal(t, codes.PermissionDenied, status.Code(err))
	changed, err := sluicepb.NewCoordinationClient(dial("operator")).
		UpdateSettings(t.Context(), &sluicepb.Settings{Activation: new(0.9)})
	require.NoError(t, err)
	require.Equal(t, 0.9, changed.GetActivation())

	// Without a certificate nobody gets in.
	runAgent(
		t, agent.Config{Endpoint: address, Component: controlplane.Component{ID: "x"}, TLS: &tls.Config{RootCAs: ca.pool}},
		backpressure.Alone,
	)
}

func TestBearerToken(t *testing.T) {
	ca := newAuthority(t)
	secure := grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{ca.issue("control-plane")}}))
	s, address := serve(
		t,
		server.Config{Token: "open sesame", AdminToken: "root"},
		append(server.BearerToken("open sesame", "root"), secure)...)
	trust := &tls.Config{RootCAs: ca.pool}
	runAgent(
		t, agent.Config{Endpoint: address, Component: controlplane.Component{ID: "a"}, TLS: trust, Token: "open sesame"},
		backpressure.Coordinated,
	)
	runAgent(
		t, agent.Config{Endpoint: address, Component: controlplane.Component{ID: "b"}, TLS: trust, Token: "wrong"},
		backpressure.Alone,
	)
	runAgent(
		t, agent.Config{Endpoint: address, Component: controlplane.Component{ID: "c"}, TLS: trust}, backpressure.Alone,
	)
	require.Len(t, s.Components(), 1)

	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(trust)))
	require.NoError(t, err)
	defer conn.Close()
	update := func(token string) error {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
		_, err := sluicepb.NewCoordinationClient(conn).
			UpdateSettings(ctx, &sluicepb.Settings{Policy: new("step"), Recovery: new(0.5)})
		return err
	}
	require.Equal(t, codes.PermissionDenied, status.Code(update("open sesame")), "a component is no admin")
	require.NoError(t, update("root"))
	require.Equal(t, 0.5, s.Controller().Config().Recovery)
}

func TestSettingsCannotBeChangedByAnybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, startPlane(t, server.Config{}))
		_, err := c.own.UpdateSettings(c.ctx, &sluicepb.Settings{Activation: new(0.9)})
		require.Equal(t, codes.PermissionDenied, status.Code(err))
		settings, err := c.own.GetSettings(c.ctx, &sluicepb.GetSettingsRequest{})
		require.NoError(t, err)
		require.Equal(t, 0.8, settings.GetActivation())
	})
}

// Changes of different settings at once are all there afterwards.
func TestSettingsThatChangeAtOnceAreAllInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{AdminToken: "root"})
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer root")
		c := newCaller(t, p)
		for i := range int64(50) {
			var both sync.WaitGroup
			for _, change := range []*sluicepb.Settings{{MaxInFlight: new(i + 1)}, {Floor: new(float64(i+1) / 100)}} {
				both.Go(func() {
					_, err := c.own.UpdateSettings(ctx, change)
					require.NoError(t, err)
				})
			}
			both.Wait()
			now := p.server.Controller().Config()
			require.Equal(t, i+1, now.MaxInFlight)
			require.Equal(t, float64(i+1)/100, now.Floor)
		}
	})
}
