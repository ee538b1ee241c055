// Package pki makes and uses the certificates by which hosts, replicas and the arbiter know each other: one
// authority for a fleet, and for each host a certificate with its name. Both ends of every connection show
// theirs (mutual TLS 1.3); a peer without a valid one, or with another name than expected, is refused
// before it can send a byte of the protocol above.
//
// Keys are Ed25519. Files are PEM: ca.pem and ca-key.pem, NAME.pem and NAME-key.pem, in one directory; a
// host needs ca.pem and its own two, and the authority's key stays with whoever runs `understudy cert`.
package pki

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

const (
	// backdate is how long before its making a certificate is valid, for hosts whose clocks are behind.
	backdate = 24 * time.Hour
	// CALife and HostLife are how long certificates are valid.
	CALife   = 10 * 365 * 24 * time.Hour
	HostLife = 2 * 365 * 24 * time.Hour
)

var names = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ErrName reports a host's name that cannot be in a certificate.
var ErrName = errors.New("a host's name is 1 to 63 of a-z, 0-9 and hyphen, no hyphen at its ends")

// NewCA makes an authority in dir. It does not replace one that is there.
func NewCA(dir string, now time.Time) error {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "understudy authority"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(CALife),
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	return issue(dir, "ca", t, t, pub, key, key)
}

// NewHost makes a certificate for a host of that name, signed by the authority in dir. addresses are
// further DNS names and IP addresses under which it is reached.
func NewHost(dir, name string, addresses []string, now time.Time) error {
	if !names.MatchString(name) || name == "ca" {
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"))
	if err != nil {
		return fmt.Errorf("load the authority: %w", err)
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(HostLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{name},
	}
	for _, a := range addresses {
		if ip := net.ParseIP(a); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, a)
		}
	}
	return issue(dir, name, t, ca.Leaf, pub, key, ca.PrivateKey)
}

// issue writes a certificate and its key; the key first, for its owner's eyes only.
func issue(dir, name string, t, parent *x509.Certificate, pub ed25519.PublicKey, key ed25519.PrivateKey, signer any) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	t.SerialNumber = serial
	cert, err := x509.CreateCertificate(rand.Reader, t, parent, pub, signer)
	if err != nil {
		return fmt.Errorf("sign certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := write(filepath.Join(dir, name+"-key.pem"), "PRIVATE KEY", secret, 0o600); err != nil {
		return err
	}
	return write(filepath.Join(dir, name+".pem"), "CERTIFICATE", cert, 0o644)
}

func write(path, kind string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: content})
	return errors.Join(err, f.Sync(), f.Close())
}

// Identity is a host's certificate and the authority that it trusts.
type Identity struct {
	Name string
	cert tls.Certificate
	pool *x509.CertPool
}

// Load reads ca.pem, NAME.pem and NAME-key.pem from dir.
func Load(dir, name string) (*Identity, error) {
	if !names.MatchString(name) {
		return nil, fmt.Errorf("%w: %q", ErrName, name)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("load the authority's certificate: %w", err)
	}
	id := &Identity{Name: name, pool: x509.NewCertPool()}
	if !id.pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("load the authority's certificate: no certificate in %s", filepath.Join(dir, "ca.pem"))
	}
	keyPath := filepath.Join(dir, name+"-key.pem")
	if st, err := os.Stat(keyPath); err == nil && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key %s can be read by others: chmod 600 it, and make a new one if others have read it", keyPath)
	}
	if id.cert, err = tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), keyPath); err != nil {
		return nil, fmt.Errorf("load the certificate of %s: %w", name, err)
	}
	_, err = id.cert.Leaf.Verify(x509.VerifyOptions{Roots: id.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", name, err)
	}
	if err := id.cert.Leaf.VerifyHostname(name); err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", name, err)
	}
	return id, nil
}

// Client is the configuration for a connection to the host of that name.
func (id *Identity) Client(peer string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{id.cert}, RootCAs: id.pool, ServerName: peer,
	}
}

// Server is the configuration for connections from the host named peer, or, if peer is empty, from any host
// with a certificate of the authority.
func (id *Identity) Server(peer string) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{id.cert}, ClientCAs: id.pool,
		ClientAuth: tls.RequireAndVerifyClientCert,
	}
	if peer != "" {
		c.VerifyConnection = func(s tls.ConnectionState) error { return s.PeerCertificates[0].VerifyHostname(peer) }
	}
	return c
}
