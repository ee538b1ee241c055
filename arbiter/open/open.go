// Package open opens the arbiter that an address names, so that every command needs one flag for it.
package open

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/dirstore"
	"understudy/arbiter/etcdstore"
	"understudy/arbiter/httparb"
	"understudy/arbiter/memstore"
)

// Help is the list of addresses for a flag's description.
const Help = "http://HOST:PORT, https://HOST:PORT, unix:/PATH, etcd://HOST:PORT[,HOST:PORT...][/PREFIX], dir:/PATH or mem:"

// ErrAddress reports an address that names no arbiter.
var ErrAddress = errors.New("arbiter address makes no sense")

// Options tune OpenURL. The zero value is ready for use. What a kind of store has no use for is ignored.
type Options struct {
	Timeout time.Duration // bounds each call over the network; 0 means the store's default
	// TLS is for https and etcd. Nil: https trusts what the system trusts and shows no certificate; etcd is
	// spoken to without TLS.
	TLS                *tls.Config
	Username, Password string        // etcd's own authentication
	CreateDir          bool          // dir: make an empty directory a new store, see dirstore.Options
	WatchInterval      time.Duration // dir: how often a watch looks; 0 means the store's default
}

// OpenURL opens the arbiter at address:
//
//	mem:                                   in memory, of this call alone; gone when closed
//	http://host:port, https://host:port    an arbiter's server, see httparb
//	unix:/path                             the same on a unix socket
//	etcd://host:port,host:port/prefix      etcd, see etcdstore; without a prefix its default
//	dir:/path                              a directory on shared storage, see dirstore; the path is absolute
//
// A directory is checked at once; what is reached over the network is first used by Warm or a call (etcd with
// a user name excepted). Close the closer when the register is no longer used. An address that makes no
// sense is an error that wraps ErrAddress.
func OpenURL(ctx context.Context, address string, o Options) (arbiter.Register, io.Closer, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("open arbiter: %w", err)
	}
	kind, rest, found := strings.Cut(address, ":")
	if !found {
		return nil, nil, wrong(address, "want "+Help)
	}
	switch kind {
	case "mem":
		if rest != "" {
			return nil, nil, wrong(address, "want mem: and nothing more")
		}
		s := memstore.New()
		return s, s, nil
	case "http", "https", "unix":
		if kind == "unix" && !filepath.IsAbs(rest) {
			return nil, nil, wrong(address, "want unix:/path")
		}
		c, err := httparb.NewClient(address, httparb.ClientOptions{Timeout: o.Timeout, TLS: o.TLS})
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrAddress, err)
		}
		return c, c, nil
	case "etcd":
		return openEtcd(address, rest, o)
	case "dir":
		if !filepath.IsAbs(rest) {
			return nil, nil, wrong(address, "want dir:/path")
		}
		return openDir(ctx, rest, o)
	}
	return nil, nil, wrong(address, "want "+Help)
}

func openEtcd(address, rest string, o Options) (arbiter.Register, io.Closer, error) {
	hosts, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return nil, nil, wrong(address, "want etcd://host:port,host:port/prefix")
	}
	if strings.ContainsAny(hosts, "@?#") {
		return nil, nil, wrong(address, "an etcd address holds no user, password or parameters")
	}
	hosts, prefix, found := strings.Cut(hosts, "/")
	if found {
		var err error
		if prefix, err = url.PathUnescape(prefix); err != nil {
			return nil, nil, wrong(address, err.Error())
		}
	}
	s, err := etcdstore.New(strings.Split(hosts, ","), etcdstore.Options{
		Prefix: prefix, TLS: o.TLS, Username: o.Username, Password: o.Password, Timeout: o.Timeout,
	})
	switch {
	case err == nil:
		return s, s, nil
	case errors.Is(err, arbiter.ErrUnreachable):
		return nil, nil, err
	}
	return nil, nil, wrong(address, err.Error())
}

// openDir gives up when ctx ends: a file server that is away lets nobody go.
func openDir(ctx context.Context, path string, o Options) (arbiter.Register, io.Closer, error) {
	type opened struct {
		store *dirstore.Store
		err   error
	}
	done := make(chan opened)
	go func() {
		s, err := dirstore.Open(path, dirstore.Options{Create: o.CreateDir, WatchInterval: o.WatchInterval})
		select {
		case done <- opened{s, err}:
		case <-ctx.Done():
			if err == nil {
				_ = s.Close()
			}
		}
	}()
	select {
	case d := <-done:
		if d.err != nil {
			return nil, nil, d.err
		}
		return d.store, d.store, nil
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("%w: open arbiter directory %s: %w", arbiter.ErrUnreachable, path, ctx.Err())
	}
}

// Warm finds out whether the register answers, and opens the connection that a claim will need. A replica
// calls it before it starts and then every few seconds.
func Warm(ctx context.Context, r arbiter.Register) error {
	if w, ok := r.(interface{ Warm(context.Context) error }); ok {
		return w.Warm(ctx)
	}
	_, err := r.Get(ctx, "healthz")
	return err
}

// wrong names the address less anything that looks like a password in it.
func wrong(address, why string) error {
	if kind, rest, found := strings.Cut(address, "://"); found {
		if at := strings.LastIndex(rest, "@"); at >= 0 {
			address = kind + "://...@" + rest[at+1:]
		}
	}
	return fmt.Errorf("%w: %q: %s", ErrAddress, address, why)
}
