package pki

import (
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fleet makes an authority and certificates for names.
func fleet(t *testing.T, now time.Time, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := NewCA(dir, now); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := NewHost(dir, n, nil, now); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t *testing.T, dir, name string) *Identity {
	t.Helper()
	id, err := Load(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// talk connects a client to a server and gives what the server made of it: the bytes it read.
func talk(t *testing.T, server, client *tls.Config) (string, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	type read struct {
		text string
		err  error
	}
	got := make(chan read, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			got <- read{"", err}
			return
		}
		defer conn.Close()
		s := tls.Server(conn, server)
		b, err := io.ReadAll(s)
		got <- read{string(b), err}
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := tls.Client(conn, client)
	_, werr := c.Write([]byte("entry"))
	_ = c.Close()
	r := <-got
	return r.text, errors.Join(r.err, werr)
}

func TestOnlyTheExpectedPeerIsHeard(t *testing.T) {
	now := time.Now()
	dir := fleet(t, now, "a", "b", "c")
	foreign := fleet(t, now, "a")
	a, b, c := load(t, dir, "a"), load(t, dir, "b"), load(t, dir, "c")
	if text, err := talk(t, b.Server("a"), a.Client("b")); text != "entry" || err != nil {
		t.Fatalf("a to b: %q, %v", text, err)
	}
	for name, pair := range map[string][2]*tls.Config{
		"a client without a certificate":            {b.Server("a"), {RootCAs: a.pool, ServerName: "b"}},
		"a client of another authority":             {b.Server("a"), load(t, foreign, "a").Client("b")},
		"a client of another name":                  {b.Server("a"), c.Client("b")},
		"a server of another name":                  {c.Server("a"), a.Client("b")},
		"a server of another authority":             {load(t, foreign, "a").Server(""), a.Client("a")},
		"an old protocol":                           {b.Server("a"), withMax(a.Client("b"), tls.VersionTLS12)},
		"a client of any name when one is expected": {b.Server("c"), a.Client("b")},
	} {
		if text, err := talk(t, pair[0], pair[1]); text != "" || err == nil {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func withMax(c *tls.Config, v uint16) *tls.Config {
	c.MinVersion, c.MaxVersion = v, v
	return c
}

func TestCertificatesThatDoNotServe(t *testing.T) {
	now := time.Now()
	dir := fleet(t, now, "a", "b")
	if err := NewCA(dir, now); !errors.Is(err, fs.ErrExist) {
		t.Errorf("an authority was replaced: %v", err)
	}
	for _, bad := range []string{"", "A", "a.b", "../x", "-a", "ca", strings.Repeat("a", 64)} {
		if err := NewHost(dir, bad, nil, now); !errors.Is(err, ErrName) {
			t.Errorf("name %q: %v", bad, err)
		}
	}
	if _, err := Load(fleet(t, now.Add(-11*365*24*time.Hour), "old"), "old"); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("expired: %v", err)
	}
	key := filepath.Join(dir, "a-key.pem")
	if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", st.Mode(), err)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, "a"); err == nil || !strings.Contains(err.Error(), "can be read by others") {
		t.Errorf("a key for everybody: %v", err)
	}
	if err := os.Rename(filepath.Join(dir, "b.pem"), filepath.Join(dir, "c.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "b-key.pem"), filepath.Join(dir, "c-key.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, "c"); err == nil {
		t.Error("b's certificate passes as c's")
	}
}
