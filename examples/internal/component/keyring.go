package component

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"

	"google.golang.org/grpc/credentials"
)

// A keyring is a certificate, its key and the authorities of others, from PEM
// files. It looks at the files at each handshake and reads them again when they
// changed, so that a renewal needs no restart; connections that are open stay.
// Files that cannot be used are logged, and those of before stay in use.
//
// It is safe for concurrent use.
type keyring struct {
	files [3]string // certificate, key, authorities; the last may be empty

	mu          sync.Mutex
	log         *slog.Logger
	seen        []os.FileInfo // that were read last, with or without success
	pair        tls.Certificate
	authorities *x509.CertPool // nil without a file
}

// openKeyring reads the files for the first time.
func openKeyring(certificate, key, authorities string) (*keyring, error) {
	k := &keyring{files: [3]string{certificate, key, authorities}, log: slog.New(slog.DiscardHandler)}
	k.seen = k.look()
	return k, k.readLocked()
}

func (k *keyring) logTo(log *slog.Logger) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log = log
}

func (k *keyring) look() (infos []os.FileInfo) {
	for _, file := range k.files {
		info, _ := os.Stat(file) // nil is a state, too
		infos = append(infos, info)
	}
	return infos
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (k *keyring) readLocked() error {
	pair, err := tls.LoadX509KeyPair(k.files[0], k.files[1])
	if err != nil {
		return err
	}
	var authorities *x509.CertPool
	if k.files[2] != "" {
		pem, err := os.ReadFile(k.files[2])
		if err != nil {
			return err
		}
		authorities = x509.NewCertPool()
		if !authorities.AppendCertsFromPEM(pem) {
			return fmt.Errorf("no certificate in %s", k.files[2])
		}
	}
	k.pair, k.authorities = pair, authorities
	return nil
}

// config is what the files say now, for one handshake: pinned to what is valid
// now, it is thrown away afterwards, and with it every session that could be
// resumed.
func (k *keyring) config() *tls.Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.look(); !slices.EqualFunc(now, k.seen, sameFile) {
		k.seen = now
		if err := k.readLocked(); err != nil {
			k.log.Error("certificates changed and cannot be used; those of before stay", "error", err)
		} else {
			k.log.Info("certificates were read again")
		}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{k.pair},
		RootCAs: k.authorities, ClientCAs: k.authorities, SessionTicketsDisabled: true,
	}
}

// server is the configuration of a server. Where the authorities are known, it
// wants certificates of its clients, or only verifies those that it gets.
func (k *keyring) server(wanted tls.ClientAuthType, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols, SessionTicketsDisabled: true,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cfg := k.config()
			cfg.NextProtos = protocols
			if cfg.ClientCAs != nil {
				cfg.ClientAuth = wanted
			}
			return cfg, nil
		},
	}
}

// dial opens a TLS connection.
func (k *keyring) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return (&tls.Dialer{Config: k.config()}).DialContext(ctx, network, address)
}

// A clientCredentials is a keyring as a client's credentials of gRPC.
type clientCredentials struct{ keys *keyring }

var _ credentials.TransportCredentials = clientCredentials{}

func (c clientCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn,
	credentials.AuthInfo, error,
) {
	return credentials.NewTLS(c.keys.config()).ClientHandshake(ctx, authority, raw)
}

func (c clientCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("component: a client's credentials")
}

func (c clientCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (c clientCredentials) Clone() credentials.TransportCredentials { return c }

func (c clientCredentials) OverrideServerName(string) error {
	return errors.New("component: the server's name is the host that is dialled")
}
