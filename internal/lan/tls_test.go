package lan

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"understudy/internal/pki"
)

// fleet makes an authority and certificates of it.
func fleet(t testing.TB, names ...string) map[string]*pki.Identity {
	t.Helper()
	dir := t.TempDir()
	if err := pki.NewCA(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]*pki.Identity)
	for _, n := range names {
		if err := pki.NewHost(dir, n, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		id, err := pki.Load(dir, n)
		if err != nil {
			t.Fatal(err)
		}
		ids[n] = id
	}
	return ids
}

func TestCablesWithCertificates(t *testing.T) {
	ours, theirs := fleet(t, CertificateName, "a"), fleet(t, CertificateName, "a")
	l, addr := startLAN(t, Config{Identity: ours[CertificateName]})
	g := newGuest(t, guestMAC, guestIP)
	p := dialPort(t, Dialer{Identity: ours["a"], Handler: func(f []byte) { g.link.receive(f) }}, addr)
	g.port.Store(p)
	g.listen(t, 7, echo)
	if err := roundTrip(dialHost(t, forwardTo(t, l, 7)), "over TLS"); err != nil {
		t.Fatal(err)
	}

	// None of these gets a frame in or out.
	before := l.Stats().Frames
	bare := dialHost(t, addr)
	_, _ = bare.Write(AppendFrame(nil, marked(otherMAC, "no certificate")))
	if _, err := io.ReadAll(bare); err != nil && isTimeout(err) {
		t.Error("a peer without TLS was not hung up on")
	}
	waitFor(t, "the refusal", func() bool { return l.Stats().Refused == 1 })
	if q, err := (&Dialer{Identity: theirs["a"]}).Dial(context.Background(), "tcp", addr); err == nil {
		q.Close()
		t.Error("a replica of another fleet took our LAN's certificate")
	}
	waitFor(t, "the refusal", func() bool { return l.Stats().Refused == 2 })
	// A client that trusts anybody, with no certificate or another fleet's.
	for i, id := range []*pki.Identity{nil, theirs["a"]} {
		cfg := ours["a"].Client(CertificateName)
		cfg.Certificates = nil
		if id != nil {
			cfg.Certificates = id.Client("").Certificates
		}
		c := tlsClient(t, addr, cfg)
		_, _ = c.Write(AppendFrame(nil, marked(otherMAC, "not of this fleet")))
		if _, err := io.ReadAll(c); err == nil || isTimeout(err) {
			t.Errorf("client %d: %v, want to be refused", i, err)
		}
		waitFor(t, "the refusal", func() bool { return l.Stats().Refused == uint64(3+i) })
	}
	if s := l.Stats(); s.Ports != 1 || l.sw.portOf(otherMAC) != "" {
		t.Errorf("%+v, %d frames before", s, before)
	}
	// A LAN whose certificate has another name is not ours to talk to.
	_, wrong := startLAN(t, Config{Identity: ours["a"]})
	if q, err := (&Dialer{Identity: ours["a"]}).Dial(context.Background(), "tcp", wrong); err == nil {
		q.Close()
		t.Error("joined a LAN with a replica's certificate")
	}
	// Certificates on one side only.
	_, bareLAN := startLAN(t, Config{})
	if q, err := (&Dialer{Identity: ours["a"]}).Dial(context.Background(), "tcp", bareLAN); err == nil {
		q.Close()
		t.Error("joined a LAN without TLS")
	}
}

// A peer that connects and says nothing holds neither others nor Close up.
func TestSilentPeersHoldNobodyUp(t *testing.T) {
	ids := fleet(t, CertificateName, "a")
	l, addr := startLAN(t, Config{Identity: ids[CertificateName]})
	for range 20 {
		dialHost(t, addr)
	}
	p := dialPort(t, Dialer{Identity: ids["a"]}, addr)
	p.Announce(1, guestMAC)
	waitFor(t, "the view", func() bool { return l.Views()[guestMAC] == 1 })
	if n := l.Stats().Ports; n != 1 {
		t.Errorf("%d ports", n)
	}
	l.Close()
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

func tlsClient(t *testing.T, addr string, cfg *tls.Config) net.Conn {
	t.Helper()
	c := tls.Client(dialHost(t, addr), cfg)
	t.Cleanup(func() { c.Close() })
	return c
}
