package kv

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"understudy/internal/control"
	"understudy/internal/pki"
)

// certificates makes those of a group, as a user does.
func certificates(t *testing.T, address func(part string) string, servers ...string) string {
	t.Helper()
	dir := t.TempDir()
	all := [][]string{{"ca"}, {"host", control.UserName}}
	for _, s := range append(servers, control.Name) {
		all = append(all, []string{"host", s, "--address", address(s)})
	}
	for _, args := range all {
		if out, err := exec.CommandContext(t.Context(), exe, append(append([]string{"cert"}, args...), "--dir", dir)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return dir
}

func loopback(string) string { return "127.0.0.1" }

// TestTLS: every connection of a group with certificates is encrypted, and both ends have shown theirs.
func TestTLS(t *testing.T) {
	long(t)
	dir := certificates(t, loopback, "kv1", "kv2")
	g := startGroup(t, options{servers: 2, tls: dir})
	a := g.protected()
	l := g.load(4)
	l.more(100)
	path := func(name string) string { return filepath.Join(dir, name) }
	certs := []string{"--tls", "--cacert", path("ca.pem"), "--cert", path("cli.pem"), "--key", path("cli-key.pem")}
	at := func() string { return g.addr(g.protected().View.Primary) }
	check := func(t *testing.T, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("printed %q, want %q", got, want)
		}
	}
	t.Run("redis-cli", func(t *testing.T) {
		check(t, cli(t, at(), "", append(certs, "set", "k", "v")...), "OK")
		check(t, cli(t, at(), "", append(certs, "get", "k")...), "v")
		check(t, cli(t, g.sentinel, "", append(certs, "sentinel", "get-master-addr-by-name", groupName)...), strings.ReplaceAll(at(), ":", "\n"))
	})
	t.Run("go-redis", func(t *testing.T) {
		config := g.identity(control.UserName).Client("127.0.0.1")
		r := goredis.NewFailoverClient(&goredis.FailoverOptions{MasterName: groupName, SentinelAddrs: []string{g.sentinel}, TLSConfig: config})
		defer r.Close()
		if v, err := r.Get(t.Context(), "k").Result(); v != "v" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
	t.Run("redis-py", func(t *testing.T) {
		if exec.Command("/usr/bin/python3", "-c", "import redis").Run() != nil {
			missing(t, "python3-redis is not installed")
		}
		_, port, _ := net.SplitHostPort(at())
		out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", fmt.Sprintf(
			"import redis; print(redis.Redis(host='127.0.0.1', port=%s, ssl=True, ssl_ca_certs=%q, ssl_certfile=%q, ssl_keyfile=%q, ssl_check_hostname=True).get('k'))",
			port, path("ca.pem"), path("cli.pem"), path("cli-key.pem"))).CombinedOutput()
		if string(out) != "b'v'\n" || err != nil {
			t.Errorf("%s, %v", out, err)
		}
	})
	bench := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), exe, append([]string{"kv", "bench", "--addr", at(), "--for", "200ms", "--clients", "4"}, args...)...).CombinedOutput()
		return string(out), err
	}
	t.Run("kv bench", func(t *testing.T) {
		if out, err := bench("--tls-dir", dir); err != nil || !strings.Contains(out, `"per_second"`) {
			t.Errorf("%s, %v", out, err)
		}
		if out, err := bench("--tls-dir", dir, "--server", "kv9"); err == nil || !strings.Contains(out, "kv9") || !strings.Contains(out, "Try: --server NAME") {
			t.Errorf("%s, %v", out, err)
		}
		if out, err := bench(); err == nil {
			t.Errorf("without certificates: %s", out)
		}
	})
	t.Run("strangers", func(t *testing.T) {
		elsewhere := certificates(t, loopback, "kv1", "kv2", "kv3")
		foreign, err := pki.Load(elsewhere, control.UserName)
		if err != nil {
			t.Fatal(err)
		}
		for what, certs := range map[string][]tls.Certificate{"another fleet's certificate": foreign.Client("").Certificates, "no certificate": nil} {
			for _, addr := range []string{at(), g.sentinel, g.addr(g.protected().View.Backup)} {
				config := g.identity(control.UserName).Client("127.0.0.1")
				config.Certificates = certs
				c, err := tls.Dial("tcp", addr, config)
				if err == nil {
					_, _ = c.Write([]byte("PING\r\n"))
					_, err = c.Read(make([]byte, 10)) // the server's refusal comes here
					c.Close()
				}
				if err == nil || !strings.Contains(err.Error(), "tls: ") {
					t.Errorf("%s is answered by %s: %v", what, addr, err)
				}
			}
		}
		for _, args := range [][]string{
			{"--tls", "--cacert", path("ca.pem")},
			{"--tls", "--cacert", path("ca.pem"), "--cert", filepath.Join(elsewhere, "cli.pem"), "--key", filepath.Join(elsewhere, "cli-key.pem")},
		} {
			if got := cli(t, at(), "", append(args, "get", "k")...); !strings.Contains(got, "Error: ") {
				t.Errorf("%v: %q", args, got)
			}
		}
		if got := cli(t, at(), "", "get", "k"); !strings.Contains(got, "Error: ") {
			t.Errorf("without TLS: %q", got)
		}
		if said := g.servers[g.protected().View.Primary].said(); !strings.Contains(said, "refused a client") {
			t.Errorf("the primary says nothing of clients that it refused:\n%s", said)
		}
		// A server of another fleet takes no part, and says why.
		cmd := exec.Command(exe, "kv", "serve", "--name", "kv3", "--group", groupName, "--control", g.control.ready["listen"], "--listen", "127.0.0.1:0")
		cmd.Env = append(os.Environ(), "UNDERSTUDY_TLS_DIR="+elsewhere)
		p, _ := g.launch("stranger", cmd)
		defer p.kill()
		wait(t, "the stranger to say why", func() (bool, string) {
			return strings.Contains(p.said(), "control does not answer") && strings.Contains(p.said(), "certificate"), p.said()
		})
		// A server without its own certificate does not start.
		if out, err := exec.CommandContext(t.Context(), exe, "kv", "serve", "--name", "kv3", "--group", groupName, "--control", g.control.ready["listen"], "--tls-dir", dir).CombinedOutput(); err == nil ||
			!strings.Contains(string(out), "load the certificate of kv3") || !strings.Contains(string(out), "Try: understudy cert host kv3") {
			t.Errorf("%s, %v", out, err)
		}
	})
	// The log channel is no exception: a conversation with it begins with a handshake.
	t.Run("log", func(t *testing.T) {
		c, err := tls.Dial("tcp", g.servers[a.View.Backup].ready["log"], &tls.Config{InsecureSkipVerify: true, Certificates: g.identity(control.UserName).Client("").Certificates})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ca, err := os.ReadFile(path("ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		if _, err := c.ConnectionState().PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: a.View.Backup}); err != nil {
			t.Error(err)
		}
	})
	g.kill(a.View.Primary)
	l.more(100)
	g.start(a.View.Primary)
	g.protected()
	l.check()
}
