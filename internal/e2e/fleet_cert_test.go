package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rpc "connectrpc.com/connect"

	api "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
	"understudy/arbiter"
	"understudy/arbiter/httparb"
	"understudy/internal/control"
	"understudy/internal/e2e/fleet"
	"understudy/internal/host"
	"understudy/internal/logchannel"
	"understudy/internal/pki"
	"understudy/view"
	"understudy/view/httpview"
)

// person is somebody with a certificate, or without.
type person struct {
	name string
	tls  func(peer string) *tls.Config
}

// people are those who knock: a host and a user of the fleet, one of another fleet, one without a certificate.
func people(t *testing.T, w *web) (a, b, user, stranger, nobody person) {
	t.Helper()
	load := func(dir, name string) *pki.Identity {
		id, err := pki.Load(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	of := func(id *pki.Identity) person { return person{id.Name, id.Client} }
	elsewhere := t.TempDir()
	for _, c := range [][]string{{"ca"}, {"host", "a"}} {
		if r := finish(t, command(t, append(append([]string{"cert"}, c...), "--dir", elsewhere)...)); r.code != 0 {
			t.Fatal(r.stderr)
		}
	}
	a, b, user = of(load(w.TLSDir, "a")), of(load(w.TLSDir, "b")), of(load(w.TLSDir, control.UserName))
	// It trusts our servers, so that it is the server who refuses.
	stranger = person{"a of another fleet", func(peer string) *tls.Config {
		c := load(w.TLSDir, "a").Client(peer)
		c.Certificates = load(elsewhere, "a").Client(peer).Certificates
		return c
	}}
	nobody = person{"nobody", func(peer string) *tls.Config {
		c := load(w.TLSDir, "a").Client(peer)
		c.Certificates = nil
		return c
	}}
	return a, b, user, stranger, nobody
}

func (p person) http(t *testing.T) *http.Client {
	tr := &http.Transport{TLSClientConfig: p.tls(control.Name)}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// TestFleetCertificates: without a certificate of the fleet nobody does anything, and with one nobody does what another's
// name is needed for.
func TestFleetCertificates(t *testing.T) {
	w := startFleet(t, fleet.Options{Hosts: []string{"a"}, Later: []string{"b", "c"}, TLS: true})
	a, b, user, stranger, nobody := people(t, w)
	base := "https://" + w.Address
	// outside tells whether the connection was refused before there was an answer. The alert that says so may be lost with
	// a connection into which the request is still being written.
	outside := func(err error) bool {
		return err != nil && slices.ContainsFunc([]string{"tls: ", "broken pipe", "connection reset", "EOF"}, func(s string) bool {
			return strings.Contains(err.Error(), s)
		})
	}

	t.Run("users' API", func(t *testing.T) {
		list := func(p person) error {
			_, err := understudyv1connect.NewMachineServiceClient(p.http(t), base).ListMachines(t.Context(), &api.ListMachinesRequest{})
			return err
		}
		if err := list(user); err != nil {
			t.Errorf("a user is refused: %v", err)
		}
		if err := list(a); rpc.CodeOf(err) != rpc.CodePermissionDenied {
			t.Errorf("host a uses the users' API: %v", err)
		}
		for _, p := range []person{stranger, nobody} {
			if err := list(p); !outside(err) {
				t.Errorf("%s: %v", p.name, err)
			}
		}
	})
	t.Run("hosts' API", func(t *testing.T) {
		work := func(p person, as string) error {
			s, err := understudyv1connect.NewHostServiceClient(p.http(t), base).Work(t.Context(),
				&api.WorkRequest{Host: as, Address: "127.0.0.1:1", Incarnation: "x"})
			if err != nil {
				return err
			}
			defer s.Close()
			if s.Receive() {
				return nil
			}
			return s.Err()
		}
		for _, c := range []struct {
			p  person
			as string
		}{{a, "b"}, {user, "b"}, {user, "a"}} {
			if err := work(c.p, c.as); rpc.CodeOf(err) != rpc.CodePermissionDenied {
				t.Errorf("%s asks for the work of %s: %v", c.p.name, c.as, err)
			}
		}
		for _, p := range []person{stranger, nobody} {
			if err := work(p, "a"); !outside(err) {
				t.Errorf("%s: %v", p.name, err)
			}
		}
		hosts, err := w.API.ListHosts(t.Context(), &api.ListHostsRequest{})
		if err != nil || len(hosts.Hosts) != 1 {
			t.Errorf("the fleet has the hosts %v, %v; want a alone", hosts, err)
		}
	})
	t.Run("view service", func(t *testing.T) {
		ping := func(p person, as string) error {
			c, err := httpview.NewClient(base, httpview.ClientOptions{TLS: p.tls(control.Name)})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Ping(t.Context(), view.Ping{Group: "stolen", Server: as, Incarnation: "x", Seq: 1})
			return err
		}
		for _, p := range []person{b, user} {
			if err := ping(p, "a"); err == nil || outside(err) {
				t.Errorf("%s pings as a: %v", p.name, err)
			}
		}
		for _, p := range []person{stranger, nobody} {
			if err := ping(p, "a"); !outside(err) {
				t.Errorf("%s: %v", p.name, err)
			}
		}
		c, err := httpview.NewClient(base, httpview.ClientOptions{TLS: user.tls(control.Name)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if s, err := c.Status(t.Context(), "stolen"); err == nil && s.View.Number != 0 {
			t.Errorf("a refused ping made view %d", s.View.Number)
		}
	})
	t.Run("arbiter", func(t *testing.T) {
		for _, p := range []person{stranger, nobody} {
			c, err := httparb.NewClient(base, httparb.ClientOptions{TLS: p.tls(control.Name)})
			if err != nil {
				t.Fatal(err)
			}
			_, won, err := c.CompareAndSet(t.Context(), "stolen", arbiter.Record{Number: 1, Primary: "a", Claimant: "x"})
			if won || !errors.Is(err, httparb.ErrCertificate) {
				t.Errorf("%s claims a view: %v, %v", p.name, won, err)
			}
			c.Close()
		}
	})
	t.Run("log channel", func(t *testing.T) { logChannel(t, w, user, stranger, nobody) })
	t.Run("processes", func(t *testing.T) {
		dir := t.TempDir()
		refuse(t, command(t, "host", "--name", "b", "--control", w.Address, "--dir", dir), "certificates", "--insecure", "understudy cert")
		// b's name on a's key: no such certificate was made.
		certs := t.TempDir()
		for from, to := range map[string]string{"ca.pem": "ca.pem", "a.pem": "b.pem", "a-key.pem": "b-key.pem"} {
			text, err := os.ReadFile(filepath.Join(w.TLSDir, from))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(certs, to), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		refuse(t, command(t, "host", "--name", "b", "--control", w.Address, "--dir", dir, "--tls-dir", certs), "certificate of b")
		refuse(t, command(t, "ps", "--control", w.Address, "--tls-dir", w.TLSDir, "--as", "a"), "not a user's")
		if r := finish(t, command(t, "ps", "--control", w.Address, "--insecure")); r.code == 0 {
			t.Errorf("a user without a certificate is answered: %s", r.stdout)
		}
	})
}

// logChannel starts a replica that waits for a primary, and knocks at its door.
func logChannel(t *testing.T, w *web, user, stranger, nobody person) {
	address := ""
	p, err := w.Group.Start(t.Context(), "lone", "replica", "--name", "c", "--group", "lone", "--views", "https://"+w.Address,
		"--arbiter", "https://"+w.Address, "--listen", "127.0.0.1:0", "--state-dir", t.TempDir(), "--tls-dir", w.TLSDir)
	if err != nil {
		t.Fatal(err)
	}
	address = p.Ready.Listen
	knock := func(config *tls.Config, hello logchannel.Hello[struct{}]) (string, error) {
		conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if config != nil {
			conn = tls.Client(conn, config)
		}
		if err := logchannel.SendJSON(conn, logchannel.KindHello, hello); err != nil {
			return "", err
		}
		var welcome logchannel.Welcome
		err = logchannel.ReceiveJSON(bufio.NewReader(conn), logchannel.KindWelcome, &welcome)
		return welcome.Error, err
	}
	as := func(from string) logchannel.Hello[struct{}] {
		return logchannel.Hello[struct{}]{Version: host.ProtocolVersion, Group: "lone", From: from, To: "c", Life: "x", View: 1}
	}
	for _, who := range []person{stranger, nobody} {
		if said, err := knock(who.tls("c"), as("a")); err == nil {
			t.Errorf("%s is heard by a replica, which says %q", who.name, said)
		}
	}
	if said, err := knock(nil, as("a")); err == nil {
		t.Errorf("a primary without TLS is heard by a replica, which says %q", said)
	} else if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !strings.Contains(err.Error(), "reset") && !errors.Is(err, logchannel.ErrFrame) {
		t.Errorf("a primary without TLS: %v", err)
	}
	// A valid certificate of another name may knock, and is told why it is refused.
	if said, err := knock(user.tls("c"), as("a")); err != nil || !strings.Contains(said, "does not show a certificate with its name") {
		t.Errorf("%s says that it is a; the replica says %q, %v", user.name, said, err)
	}
	select {
	case <-p.Done():
		t.Errorf("the replica ended: %s", p.LastWords())
	default:
	}
}

// TestFleetInsecureIsLoopback: without certificates nothing leaves loopback, in any direction.
func TestFleetInsecureIsLoopback(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{"control", "--insecure", "--listen", "0.0.0.0:0", "--data", dir},
		{"host", "--insecure", "--name", "a", "--dir", dir, "--listen", "0.0.0.0:0"},
		{"host", "--insecure", "--name", "a", "--dir", dir, "--control", "10.77.0.1:7600"},
		{"host", "--insecure", "--name", "a", "--dir", dir, "--advertise", "10.77.0.1"},
		{"ps", "--insecure", "--control", "10.77.0.1:7600"},
		{"replica", "--group", "g", "--views", "http://10.77.0.1:7600", "--arbiter", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"},
		{"replica", "--group", "g", "--views", "http://127.0.0.1:1", "--arbiter", "http://10.77.0.1:7600", "--listen", "127.0.0.1:0"},
		{"replica", "--group", "g", "--views", "http://127.0.0.1:1", "--arbiter", "http://127.0.0.1:1", "--listen", "0.0.0.0:0"},
		{"lan", "--admin", "0.0.0.0:0", "--data", dir},
	} {
		t.Run(strings.Join(args[:3], " "), func(t *testing.T) { refuse(t, command(t, args...), "only loopback addresses are allowed") })
	}
	refuse(t, command(t, "control", "--data", dir), "--insecure", "understudy cert")
	refuse(t, command(t, "ps"), "--insecure", "understudy cert")
}
