package open_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/dirstore"
	"understudy/arbiter/httparb"
	"understudy/arbiter/memstore"
	"understudy/arbiter/open"
)

func TestEveryKind(t *testing.T) {
	serve := func(network, addr string) string {
		ln, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- httparb.NewServer(memstore.New(), nil).Serve(ctx, ln) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		return ln.Addr().String()
	}
	socket := filepath.Join(t.TempDir(), "sock")
	serve("unix", socket)
	for _, address := range []string{"mem:", "http://" + serve("tcp", "127.0.0.1:0"), "unix:" + socket, "dir:" + t.TempDir()} {
		kind, _, _ := strings.Cut(address, ":")
		t.Run(kind, func(t *testing.T) {
			r, closer, err := open.OpenURL(t.Context(), address, open.Options{CreateDir: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := open.Warm(t.Context(), r); err != nil {
				t.Error(err)
			}
			one := arbiter.Record{Number: 1, Primary: "a", Claimant: "x"}
			if _, won, err := r.CompareAndSet(t.Context(), "g", one); !won || err != nil {
				t.Error(won, err)
			}
			if got, err := r.Watch(t.Context(), "g", 0); got != one || err != nil {
				t.Error(got, err)
			}
			if err := closer.Close(); err != nil {
				t.Error(err)
			}
			if _, err := r.Get(t.Context(), "g"); !errors.Is(err, arbiter.ErrUnreachable) {
				t.Errorf("get after close: %v", err)
			}
		})
	}
}

func TestNothingAnswers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	for _, address := range []string{"http://" + addr, "https://" + addr, "etcd://" + addr, "unix:" + filepath.Join(t.TempDir(), "none")} {
		r, closer, err := open.OpenURL(t.Context(), address, open.Options{Timeout: 200 * time.Millisecond})
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		err = open.Warm(t.Context(), r)
		if !errors.Is(err, arbiter.ErrUnreachable) {
			t.Errorf("%s: %v", address, err)
		}
		t.Log(err)
		closer.Close()
	}
}

func TestWrongAddresses(t *testing.T) {
	for _, address := range []string{
		"", "mem", "mem:x", "host:1", "ftp://h", "http://", "http://h/?q", "unix:", "unix:sock", "dir:", "dir:relative",
		"etcd:", "etcd:h:1", "etcd://", "etcd:///prefix", "etcd://h", "etcd://h:1,", "etcd://h:1,h", "etcd://h:1/a?b", "etcd://h:1/%zz",
	} {
		_, _, err := open.OpenURL(t.Context(), address, open.Options{})
		if !errors.Is(err, open.ErrAddress) {
			t.Errorf("%q: %v", address, err)
		}
	}
	_, _, err := open.OpenURL(t.Context(), "etcd://root:hunter2@h:1", open.Options{})
	if !errors.Is(err, open.ErrAddress) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("password in an address: %v", err)
	}
}

// An empty directory is what a mount point without its mount looks like.
func TestAnEmptyDirectoryIsNoArbiter(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := open.OpenURL(t.Context(), "dir:"+dir, open.Options{}); !errors.Is(err, dirstore.ErrNotStore) {
		t.Errorf("%v", err)
	}
	if names, err := os.ReadDir(dir); len(names) != 0 || err != nil {
		t.Error(names, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := open.OpenURL(ended, "dir:"+dir, open.Options{}); err == nil {
		t.Error("opened with an ended context")
	}
}
