package httparb_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/arbitertest"
	"understudy/arbiter/boltstore"
	"understudy/arbiter/httparb"
	"understudy/arbiter/memstore"
)

// The test binary plays the server that must be able to die: store file, address.
func TestMain(m *testing.M) {
	arbitertest.Main(m, map[string]func([]string) error{"server": func(args []string) error {
		s, err := boltstore.Open(args[0], boltstore.Options{LockTimeout: 5 * time.Second})
		if err != nil {
			return err
		}
		ln, err := net.Listen("tcp", args[1])
		if err != nil {
			return err
		}
		fmt.Println("ready")
		return httparb.NewServer(s, nil).Serve(context.Background(), ln)
	}})
}

// serve runs a server in this process and returns a client of it.
func serve(t testing.TB, store arbiter.Store, network, addr string) *httparb.Client {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- httparb.NewServer(store, nil).Serve(ctx, ln) }()
	url := "http://" + ln.Addr().String()
	if network == "unix" {
		url = "unix:" + addr
	}
	c, err := httparb.NewClient(url, httparb.ClientOptions{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		store.Close()
	})
	return c
}

func bolt(t testing.TB) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(filepath.Join(t.TempDir(), "arbiter.db"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRegisterOverHTTP(t *testing.T) {
	arbitertest.Run(t, arbitertest.Suite{
		Rounds: arbitertest.Rounds(50, 500),
		Open:   func(t *testing.T) arbiter.Register { return serve(t, bolt(t), "tcp", "127.0.0.1:0") },
		Pair: func(t *testing.T) (a, b arbiter.Register) {
			store := bolt(t)
			return serve(t, store, "tcp", "127.0.0.1:0"), serve(t, store, "unix", filepath.Join(t.TempDir(), "sock"))
		},
	})
}

func TestUnixSocketAndListing(t *testing.T) {
	c := serve(t, memstore.New(), "unix", filepath.Join(t.TempDir(), "sock"))
	if err := c.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := arbiter.Record{Number: 1, Primary: "a", Claimant: "x"}
	if _, won, err := c.CompareAndSet(t.Context(), "g", want); !won || err != nil {
		t.Fatal(won, err)
	}
	all, err := c.All(t.Context())
	if err != nil || len(all) != 1 || all["g"] != want {
		t.Errorf("%v, %v", all, err)
	}
}

func TestServerRefusesNonsense(t *testing.T) {
	store := memstore.New()
	defer store.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- httparb.NewServer(store, nil).Serve(ctx, ln) }()
	base := "http://" + ln.Addr().String()
	good := `{"number":1,"primary":"a","backup":"","claimant":"x"}`
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/v1/groups/g/claim", "", 400},
		{"POST", "/v1/groups/g/claim", "{", 400},
		{"POST", "/v1/groups/g/claim", "[1]", 400},
		{"POST", "/v1/groups/g/claim", `{"number":-1,"primary":"a","claimant":"x"}`, 400},
		{"POST", "/v1/groups/g/claim", `{"number":1e30,"primary":"a","claimant":"x"}`, 400},
		{"POST", "/v1/groups/g/claim", `{"number":1,"primary":"a","claimant":"x","force":true}`, 400},
		{"POST", "/v1/groups/g/claim", good + good, 400},
		{"POST", "/v1/groups/g/claim", `{"primary":"` + strings.Repeat("a", 1<<20) + `"}`, 413},
		{"POST", "/v1/groups/UPPER/claim", good, 400},
		{"POST", "/v1/groups/g", good, 405},
		{"DELETE", "/v1/groups/g", "", 405},
		{"GET", "/v1/groups/-", "", 400},
		{"GET", "/v1/groups/g/claim", "", 405},
		{"GET", "/else", "", 404},
		{"GET", "/healthz", "", 200},
		{"GET", "/v1/groups", "", 200},
	} {
		req, _ := http.NewRequest(c.method, base+c.path, strings.NewReader(c.body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s %.40s: status %d, want %d: %s", c.method, c.path, c.body, resp.StatusCode, c.want, text)
		}
	}
	if all, _ := store.All(t.Context()); len(all) != 0 {
		t.Errorf("the store changed: %v", all)
	}
	store.Close()
	resp, err := http.Get(base + "/healthz")
	if err != nil || resp.StatusCode != 503 {
		t.Errorf("healthz of a closed store: %v, %v", resp, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What cannot be a server's answer about our claim is "unknown".
func TestClientTakesNothingForGranted(t *testing.T) {
	next := arbiter.Record{Number: 1, Primary: "a", Claimant: "x"}
	other, _ := json.Marshal(arbiter.Record{Number: 1, Primary: "b", Claimant: "y"})
	for name, c := range map[string]struct {
		status int
		body   string
		want   error
	}{
		"won, by another":  {200, `{"current":` + string(other) + `,"won":true}`, arbiter.ErrUnreachable},
		"empty":            {200, ``, arbiter.ErrUnreachable},
		"won, nothing":     {200, `{"won":true}`, arbiter.ErrUnreachable},
		"HTML":             {200, `<html>`, arbiter.ErrUnreachable},
		"endless":          {200, strings.Repeat(" ", 1<<20), arbiter.ErrUnreachable},
		"server error":     {500, `{"won":true}`, arbiter.ErrUnreachable},
		"proxy":            {502, `bad gateway`, arbiter.ErrUnreachable},
		"too many":         {429, ``, arbiter.ErrUnreachable},
		"bad request":      {400, `{"error":"no"}`, arbiter.ErrRefused},
		"not an arbiter":   {404, `404 page not found`, arbiter.ErrRefused},
		"too many groups":  {422, `{"error":"full"}`, arbiter.ErrRefused},
		"redirect to self": {307, ``, arbiter.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", r.URL.Path)
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})}
			go srv.Serve(ln)
			defer srv.Close()
			client, err := httparb.NewClient("http://"+ln.Addr().String(), httparb.ClientOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, won, err := client.CompareAndSet(t.Context(), "g", next); won || !errors.Is(err, c.want) {
				t.Errorf("%t, %v; want %v", won, err, c.want)
			}
		})
	}
	for _, bad := range []string{"", "host:1", "ftp://h", "http://", "http://h/?q", "%"} {
		if _, err := httparb.NewClient(bad, httparb.ClientOptions{}); err == nil {
			t.Errorf("address %q: no error", bad)
		}
	}
}

// A server that takes the request and says nothing is given up in time.
func TestClientTimesOut(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := httparb.NewClient("http://"+ln.Addr().String(), httparb.ClientOptions{Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, won, err := c.CompareAndSet(t.Context(), "g", arbiter.Record{Number: 1, Primary: "a", Claimant: "x"})
	if won || !errors.Is(err, arbiter.ErrUnreachable) || time.Since(start) > 5*time.Second {
		t.Errorf("%t, %v after %s", won, err, time.Since(start))
	}
}

func TestKilledArbiterAndKilledClaimants(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	path := filepath.Join(t.TempDir(), "arbiter.db")
	server := arbitertest.StartPart(t, "server", path, addr)
	arbitertest.Race(t, arbitertest.Shared{
		URL:    "http://" + addr,
		Rounds: arbitertest.Rounds(200, 1500),
		Restart: func() {
			arbitertest.Kill(server)
			server = arbitertest.StartPart(t, "server", path, addr)
		},
	})
}

func BenchmarkClaim(b *testing.B) {
	c := serve(b, bolt(b), "tcp", "127.0.0.1:0")
	if err := c.Warm(b.Context()); err != nil {
		b.Fatal(err)
	}
	arbitertest.BenchmarkClaim(b, c)
}
