package httparb_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/arbitertest"
	"understudy/arbiter/httparb"
	"understudy/arbiter/memstore"
)

// countingStore counts what reaches the store.
type countingStore struct {
	arbiter.Store
	calls atomic.Int64
}

func (c *countingStore) Get(ctx context.Context, group string) (arbiter.Record, error) {
	c.calls.Add(1)
	return c.Store.Get(ctx, group)
}

func (c *countingStore) CompareAndSet(ctx context.Context, group string, next arbiter.Record) (arbiter.Record, bool, error) {
	c.calls.Add(1)
	return c.Store.CompareAndSet(ctx, group, next)
}

func serveTLS(t testing.TB, store arbiter.Store, config *tls.Config, options ...httparb.ServerOption) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = ln.Addr().String()
	if config != nil {
		ln = tls.NewListener(ln, config)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- httparb.NewServer(store, nil, options...).Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		store.Close()
	})
	return addr
}

func TestCertificates(t *testing.T) {
	ours, others := arbitertest.NewAuthority(t), arbitertest.NewAuthority(t)
	const client, server = x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	store := &countingStore{Store: memstore.New()}
	addr := serveTLS(t, store, httparb.ServerTLS(ours.Issue(nil, server), ours.Pool()))
	plain := serveTLS(t, &countingStore{Store: memstore.New()}, nil)
	foreign := serveTLS(t, memstore.New(), httparb.ServerTLS(others.Issue(nil, server), ours.Pool()))
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	elsewhere := serveTLS(t, memstore.New(), httparb.ServerTLS(ours.Issue(func(c *x509.Certificate) { c.IPAddresses = nil; c.DNSNames = []string{"elsewhere"} }, server), ours.Pool()))
	noAuthority := serveTLS(t, memstore.New(), httparb.ServerTLS(ours.Issue(nil, server), nil))
	good := httparb.ClientTLS(ours.Issue(nil, client), ours.Pool())
	for name, c := range map[string]struct {
		url    string
		config *tls.Config
		want   string // in the error; empty: it works
	}{
		"good":                   {"https://" + addr, good, ""},
		"no certificate":         {"https://" + addr, &tls.Config{RootCAs: ours.Pool()}, "does not accept our certificate"},
		"other authority":        {"https://" + addr, httparb.ClientTLS(others.Issue(nil, client), ours.Pool()), "does not accept our certificate"},
		"expired":                {"https://" + addr, httparb.ClientTLS(ours.Issue(expired, client), ours.Pool()), "does not accept our certificate"},
		"a server's certificate": {"https://" + addr, httparb.ClientTLS(ours.Issue(nil, server), ours.Pool()), "does not accept our certificate"},
		"server not trusted":     {"https://" + addr, httparb.ClientTLS(ours.Issue(nil, client), others.Pool()), "not accepted here"},
		"nobody trusted":         {"https://" + addr, httparb.ClientTLS(ours.Issue(nil, client), nil), "not accepted here"},
		"system's trust":         {"https://" + addr, nil, "not accepted here"},
		"foreign server":         {"https://" + foreign, good, "not accepted here"},
		"server of another name": {"https://" + elsewhere, good, "not accepted here"},
		"no client authority":    {"https://" + noAuthority, good, "does not accept our certificate"},
		"plain to TLS":           {"http://" + addr, nil, "wants TLS"},
		"TLS to plain":           {"https://" + plain, good, "does not use TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			before := store.calls.Load()
			// Several times: how a refusal arrives is a matter of who is faster.
			for range 20 {
				r, err := httparb.NewClient(c.url, httparb.ClientOptions{TLS: c.config, Timeout: 10 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				cur, won, err := r.CompareAndSet(t.Context(), "g", arbiter.Record{Number: 1, Primary: "a", Claimant: "x"})
				_ = r.Close()
				if c.want == "" {
					if !won || err != nil {
						t.Fatal(cur, won, err)
					}
					continue
				}
				if won || !errors.Is(err, arbiter.ErrUnreachable) || !errors.Is(err, httparb.ErrCertificate) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("%t, %v; want %q", won, err, c.want)
				}
			}
			if calls := store.calls.Load() - before; c.want != "" && calls != 0 {
				t.Errorf("%d requests were processed", calls)
			}
		})
	}
}

// A TLS port answers nobody without a certificate, whatever the way.
func TestNoRequestWithoutCertificate(t *testing.T) {
	ours := arbitertest.NewAuthority(t)
	store := &countingStore{Store: memstore.New()}
	addr := serveTLS(t, store, httparb.ServerTLS(ours.Issue(nil, x509.ExtKeyUsageServerAuth), ours.Pool()))
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ours.Pool()})
	if err == nil {
		// The server's refusal comes after our half of the handshake; a request that is quicker is not heard.
		_, _ = conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
		if n, err := conn.Read(make([]byte, 100)); n > 0 || err == nil {
			t.Errorf("%d bytes of answer, %v", n, err)
		}
		conn.Close()
	}
	old := &tls.Config{RootCAs: ours.Pool(), MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{ours.Issue(nil, x509.ExtKeyUsageClientAuth)}}
	if _, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: old}}).Get("https://" + addr + "/healthz"); err == nil {
		t.Error("TLS 1.2 is answered")
	}
	if n := store.calls.Load(); n != 0 {
		t.Errorf("%d requests were processed", n)
	}
}

// TestOwnClaimsOnly: a host takes over a group in which it has a part, and no other.
func TestOwnClaimsOnly(t *testing.T) {
	ours := arbitertest.NewAuthority(t)
	store := memstore.New()
	addr := serveTLS(t, store, httparb.ServerTLS(ours.Issue(nil, x509.ExtKeyUsageServerAuth), ours.Pool()), httparb.OwnClaimsOnly("control"))
	as := func(name string) *httparb.Client {
		cert := ours.Issue(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{name}, nil }, x509.ExtKeyUsageClientAuth)
		c, err := httparb.NewClient("https://"+addr, httparb.ClientOptions{TLS: httparb.ClientTLS(cert, ours.Pool()), Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for i, c := range []struct {
		by              string
		number          uint64
		primary, backup string
		wins, refused   bool
	}{
		{by: "c", number: 1, primary: "a", backup: "b", refused: true},
		{by: "a", number: 1, primary: "a", backup: "b", wins: true},
		{by: "c", number: 2, primary: "c", refused: true},
		{by: "c", number: 2, primary: "b", backup: "c", refused: true},
		{by: "c", number: 1, primary: "c"}, // lost, as anybody's
		{by: "a", number: 2, primary: "b", backup: "a", wins: true},
		{by: "a", number: 3, primary: "b", refused: true},
		{by: "b", number: 3, primary: "b", wins: true},
		{by: "a", number: 4, primary: "a", refused: true},
		{by: "control", number: 4, primary: "b", backup: "c", wins: true},
		{by: "c", number: 5, primary: "c", wins: true},
	} {
		before, _ := store.Get(t.Context(), "g")
		next := arbiter.Record{Number: c.number, Primary: c.primary, Backup: c.backup, Claimant: "x"}
		cur, won, err := as(c.by).CompareAndSet(t.Context(), "g", next)
		if won != c.wins || errors.Is(err, arbiter.ErrRefused) != c.refused || (err != nil) != c.refused {
			t.Errorf("%d: %+v, %v, %v", i, cur, won, err)
		}
		if now, _ := store.Get(t.Context(), "g"); !c.wins && now != before {
			t.Errorf("%d: the record is %+v", i, now)
		}
	}
}
