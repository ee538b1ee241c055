package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"understudy/internal/lan"
	"understudy/internal/lan/lanapi"
	"understudy/internal/pki"
)

// startLAN runs the command until end and returns the line that it prints.
func startLAN(t *testing.T, args ...string) (ready listening, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	c := lanCommand()
	c.SetArgs(args)
	c.SetOut(in)
	c.SetErr(io.Discard)
	ended := make(chan error, 1)
	go func() {
		err := c.ExecuteContext(ctx)
		in.CloseWithError(errors.Join(errors.New("the command ended"), err))
		ended <- err
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	return ready, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestLANAlone(t *testing.T) {
	ready, end := startLAN(t, "--forward", "127.0.0.1:0:80", "--forward", "0:53/udp")
	defer end()
	if ready.Admin != "" || ready.Listen == "" || len(ready.Forwards) != 2 {
		t.Errorf("%+v", ready)
	}
	conn, err := net.Dial("tcp", ready.Forwards[0])
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestLANDaemonStartsAgain(t *testing.T) {
	dir := t.TempDir()
	args := []string{"--admin", filepath.Join(dir, "admin.sock"), "--data", filepath.Join(dir, "data")}
	client, err := lanapi.NewClient("unix:"+args[1], lanapi.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ready, end := startLAN(t, args...)
	if ready.Admin != args[1] || ready.Listen != "" {
		t.Errorf("%+v", ready)
	}
	if all, err := client.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	db, err := client.Put(t.Context(), "db", lanapi.Spec{Forwards: []string{"0:80"}})
	if err != nil {
		t.Fatal(err)
	}
	end()
	client.Close()
	ready, end = startLAN(t, append(args, "--listen", filepath.Join(dir, "default.sock"), "--forward", "0:81")...)
	all, err := client.List(t.Context())
	if err != nil || len(all) != 2 || all[0].Listen != db.Listen || !slices.Equal(all[0].Forwards, db.Forwards) || all[1].Name != defaultLAN {
		t.Errorf("%+v, %v", all, err)
	}
	if len(ready.Forwards) != 1 || ready.Listen != filepath.Join(dir, "default.sock") || all[1].Forwards[0].At != ready.Forwards[0] {
		t.Errorf("%+v", ready)
	}
	end()
	client.Close()
	_, end = startLAN(t, args...)
	defer end()
	p, err := lan.Dial(t.Context(), "unix", ready.Listen)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
}

func TestLANWithCertificates(t *testing.T) {
	dir := t.TempDir()
	if err := pki.NewCA(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{lan.CertificateName, "a"} {
		if err := pki.NewHost(dir, name, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	id, err := pki.Load(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	ready, end := startLAN(t, "--admin", "127.0.0.1:0", "--tls-dir", dir, "--listen", "127.0.0.1:0")
	defer end()
	client, err := lanapi.NewClient("https://"+ready.Admin, lanapi.ClientOptions{TLS: id.Client(lan.CertificateName)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	p, err := (&lan.Dialer{Identity: id}).Dial(t.Context(), "tcp", ready.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Announce(1, guestMAC)
	for {
		s, err := client.Get(t.Context(), defaultLAN)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Views) == 1 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestLANFlagsThatCannotBe(t *testing.T) {
	for _, args := range [][]string{
		{"--data", t.TempDir()},
		{"--join-host", "127.0.0.1"},
		{"--listen", "192.0.2.1:0"},
		{"--listen", "0.0.0.0:0"},
		{"--admin", "192.0.2.1:0"},
		{"--admin", "127.0.0.1:0", "--join-host", "192.0.2.1"},
		{"--admin", "127.0.0.1:0", "--listen", "0.0.0.0:0"},
		{"--admin", "127.0.0.1:0", "--forward", "80"},
		{"--tls-dir", t.TempDir()},
	} {
		c := lanCommand()
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs(args)
		c.SetErr(io.Discard)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := c.ExecuteContext(ctx)
		if err == nil {
			t.Errorf("%q: no error", args)
		}
		cancel()
	}
}
