package etcdtest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"understudy/arbiter"
	"understudy/arbiter/arbitertest"
	"understudy/arbiter/etcdstore"
	"understudy/arbiter/open"
)

func TestCertificates(t *testing.T) {
	ours, others := arbitertest.NewAuthority(t), arbitertest.NewAuthority(t)
	const client, server = x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	// etcd's gateway is a client of its own server, with the server's certificate.
	authority, certificate, key := ours.WriteFiles(ours.Issue(nil, server, client))
	m, _ := start(t, func(c *embed.Config) {
		c.ListenClientUrls[0].Scheme = "https"
		c.AdvertiseClientUrls[0].Scheme = "https"
		c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile, c.ClientTLSInfo.TrustedCAFile = certificate, key, authority
		c.ClientTLSInfo.ClientCertAuth = true
	})
	plain, _ := start(t, nil)
	with := func(a *arbitertest.Authority, trust *x509.CertPool, uses ...x509.ExtKeyUsage) *tls.Config {
		return &tls.Config{RootCAs: trust, Certificates: []tls.Certificate{a.Issue(nil, uses...)}}
	}
	for name, c := range map[string]struct {
		m      member
		config *tls.Config
		good   bool
	}{
		"good":               {m, with(ours, ours.Pool(), client), true},
		"no certificate":     {m, &tls.Config{RootCAs: ours.Pool()}, false},
		"other authority":    {m, with(others, ours.Pool(), client), false},
		"server not trusted": {m, with(ours, others.Pool(), client), false},
		"plain to TLS":       {m, nil, false},
		"TLS to plain":       {plain, with(ours, ours.Pool(), client), false},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				r, closer, err := open.OpenURL(t.Context(), "etcd://"+c.m.client+"/tls", open.Options{TLS: c.config, Timeout: 500 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				_, won, err := r.CompareAndSet(t.Context(), "g", one(1))
				_ = closer.Close()
				if c.good {
					if !won || err != nil {
						t.Error(won, err)
					}
					continue
				}
				if won || !errors.Is(err, arbiter.ErrUnreachable) || !errors.Is(err, etcdstore.ErrCertificate) {
					t.Errorf("%t, %v", won, err)
				}
				t.Log(err)
			}
		})
	}
}

func TestUsers(t *testing.T) {
	m, _ := start(t, nil)
	c := raw(t, m)
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.UserAdd(ctx, "root", "root"))
	must(c.UserGrantRole(ctx, "root", "root"))
	must(c.RoleAdd(ctx, "arbiter"))
	must(c.RoleGrantPermission(ctx, "arbiter", "/ours/", clientv3.GetPrefixRangeEnd("/ours/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	for _, u := range []string{"understudy", "visitor"} {
		must(c.UserAdd(ctx, u, "secret-"+u))
	}
	must(c.UserGrantRole(ctx, "understudy", "arbiter"))
	must(c.AuthEnable(ctx))

	s := open1(t, "/ours", etcdstore.Options{Username: "understudy", Password: "secret-understudy"}, m)
	claim(t, s, 1)
	if _, err := s.Watch(ctx, "g", 0); err != nil {
		t.Error(err)
	}
	if all, err := s.All(ctx); err != nil || len(all) != 1 {
		t.Error(all, err)
	}
	denied := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, arbiter.ErrUnreachable) || !errors.Is(err, etcdstore.ErrDenied) {
			t.Errorf("%s: %v", what, err)
		}
		t.Log(err)
	}
	for what, s := range map[string]*etcdstore.Store{
		"no user":        open1(t, "/ours", etcdstore.Options{}, m),
		"user elsewhere": open1(t, "/theirs", etcdstore.Options{Username: "understudy", Password: "secret-understudy"}, m),
		"without role":   open1(t, "/ours", etcdstore.Options{Username: "visitor", Password: "secret-visitor"}, m),
	} {
		_, err := s.Get(ctx, "g")
		denied(what+": get", err)
		_, won, err := s.CompareAndSet(ctx, "g", one(2))
		denied(what+": claim", err)
		if won {
			t.Errorf("%s: won", what)
		}
		_, err = s.Watch(ctx, "g", 1)
		denied(what+": watch", err)
	}
	_, err := etcdstore.New([]string{m.client}, etcdstore.Options{Username: "understudy", Password: "wrong"})
	denied("wrong password", err)
	_, err = etcdstore.New([]string{m.client}, etcdstore.Options{Username: "nobody", Password: "wrong"})
	denied("unknown user", err)
	if _, err := etcdstore.New([]string{m.client}, etcdstore.Options{Username: "half"}); err == nil {
		t.Error("a user without a password")
	}
}
