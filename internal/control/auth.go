package control

import (
	"context"
	"crypto/x509"
	"net/http"
	"regexp"
	"strings"

	"connectrpc.com/connect"
)

// Names in certificates.
const (
	// Name is control's own. Its certificate is also the arbiter's: see ArbiterName.
	Name = "control"
	// ArbiterName is the name under which replicas know the arbiter.
	ArbiterName = "arbiter"
	// UserName is that of a user; others are UserName-SOMETHING.
	UserName = "cli"
)

var userForm = regexp.MustCompile(`^` + UserName + `(-[a-z0-9-]+)?$`)

type peerKey struct{}

// withPeer lets handlers see the certificate of who asks. A server without certificates lets everybody do everything;
// it is on a loopback address.
func withPeer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			r = r.WithContext(context.WithValue(r.Context(), peerKey{}, r.TLS.PeerCertificates[0]))
		}
		next.ServeHTTP(w, r)
	})
}

// peer is the certificate of who asks, nil without certificates.
func peer(ctx context.Context) *x509.Certificate {
	cert, _ := ctx.Value(peerKey{}).(*x509.Certificate)
	return cert
}

// mayBeHost lets only the host itself speak for it.
func mayBeHost(ctx context.Context, name string) error {
	cert := peer(ctx)
	if cert == nil || cert.VerifyHostname(name) == nil && !isUser(cert) && name != Name && name != ArbiterName {
		return nil
	}
	return refuse(connect.CodePermissionDenied, "understudy cert host "+name, "a certificate of %s does not speak for host %s", certName(cert), name)
}

// mayUse lets users, and control itself, give orders.
func mayUse(ctx context.Context) error {
	cert := peer(ctx)
	if cert == nil || isUser(cert) {
		return nil
	}
	return refuse(connect.CodePermissionDenied, "understudy cert host "+UserName+", for a user's certificate",
		"a certificate of %s is not a user's", certName(cert))
}

func isUser(cert *x509.Certificate) bool {
	for _, n := range cert.DNSNames {
		if userForm.MatchString(n) {
			return true
		}
	}
	return false
}

func certName(cert *x509.Certificate) string {
	if len(cert.DNSNames) == 0 {
		return "nobody"
	}
	return strings.Join(cert.DNSNames, ", ")
}

// users is an interceptor that lets only users in.
type users struct{}

func (users) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		if err := mayUse(ctx); err != nil {
			return nil, err
		}
		return next(ctx, r)
	}
}

func (users) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (users) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := mayUse(ctx); err != nil {
			return err
		}
		return next(ctx, conn)
	}
}

// usersOnly is users for plain HTTP.
func usersOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := mayUse(r.Context()); err != nil {
			http.Error(w, plain(err), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
