package httparb

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"understudy/arbiter"
)

// ErrCertificate reports that one side did not accept the other's certificate, or that one side speaks TLS
// and the other does not. It comes wrapped with arbiter.ErrUnreachable and what to check: nothing is known
// about earlier claims, and this one stays unanswered until somebody has helped.
var ErrCertificate = errors.New("no TLS connection to the arbiter")

// ServerTLS returns the configuration of a listener (see tls.NewListener) that shows certificate and lets
// nobody send a request who has no certificate for client authentication from one of clientAuthorities.
// TLS 1.3 only.
func ServerTLS(certificate tls.Certificate, clientAuthorities *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    nonNil(clientAuthorities),
		NextProtos:   []string{"http/1.1"},
	}
}

// ClientTLS returns the configuration of a client (see ClientOptions.TLS) that shows certificate and talks only to
// servers with a certificate for their host name or address from one of serverAuthorities. TLS 1.3 only.
func ClientTLS(certificate tls.Certificate, serverAuthorities *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{certificate},
		RootCAs:      nonNil(serverAuthorities),
	}
}

// nonNil makes "no authority" mean that: in a tls.Config nil means all that the system trusts.
func nonNil(pool *x509.CertPool) *x509.CertPool {
	if pool == nil {
		return x509.NewCertPool()
	}
	return pool
}

// plainToTLS is what net/http's server answers, with status 400, to a request without TLS on a TLS port.
const plainToTLS = "Client sent an HTTP request to an HTTPS server."

// explain says what went wrong with a request in our own words and what to do about it.
func (c *Client) explain(err error) error {
	var (
		verify *tls.CertificateVerificationError
		alert  tls.AlertError
		record tls.RecordHeaderError
	)
	hint := ""
	switch {
	case errors.As(err, &verify):
		hint = "the server's certificate is not accepted here: check its authority, names and dates"
	case errors.As(err, &alert), strings.Contains(err.Error(), "remote error: tls: "):
		hint = "the server does not accept our certificate: check that it is given, its authority and its dates"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		hint = "the server does not use TLS: check the address"
	default:
		return fmt.Errorf("%w: %w", arbiter.ErrUnreachable, err)
	}
	return fmt.Errorf("%w: %w: %w: %s", arbiter.ErrUnreachable, ErrCertificate, err, hint)
}

// wantsTLS reports whether an answer comes from a server that was spoken to without TLS and wants it.
func wantsTLS(resp *http.Response, text []byte) bool {
	return resp.StatusCode == http.StatusBadRequest && strings.HasPrefix(string(text), plainToTLS)
}
