package etcdstore

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// troubleAge is how long a failure to connect explains why there is no answer.
const troubleAge = 10 * time.Second

// trouble remembers why no connection came about. etcd's client tries again until a call's context ends, and
// then says only that.
type trouble struct {
	last atomic.Pointer[troubled]
}

type troubled struct {
	at  time.Time
	err error
	tls bool // it is about certificates, or about TLS as such
}

func (t *trouble) note(addr string, err error, tls bool) {
	t.last.Store(&troubled{at: time.Now(), err: fmt.Errorf("%s: %w", addr, err), tls: tls})
}

// recent returns what happened within troubleAge, or nil.
func (t *trouble) recent() *troubled {
	if l := t.last.Load(); l != nil && time.Since(l.at) < troubleAge {
		return l
	}
	return nil
}

// options make gRPC connect through t.
func (t *trouble) options(config *tls.Config) []grpc.DialOption {
	o := []grpc.DialOption{grpc.WithContextDialer(t.dial)}
	if config != nil {
		o = append(o, grpc.WithTransportCredentials(noting{credentials.NewTLS(config), t}))
	}
	return o
}

func (t *trouble) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		t.note(addr, err, false)
		return nil, err
	}
	return &firstRead{Conn: conn, to: t}, nil
}

// firstRead notes when a connection without TLS ends, or brings something that is not HTTP/2, before it brought
// an answer: that is how a server that wants TLS looks.
type firstRead struct {
	net.Conn
	to   *trouble
	done bool // read by the one reader that a connection has
}

func (f *firstRead) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if !f.done {
		f.done = true
		if err == io.EOF {
			f.to.note(f.RemoteAddr().String(), fmt.Errorf("connection closed before the first answer: does it want TLS? (%w)", err), true)
		}
	}
	return n, err
}

// noting is TLS that notes what goes wrong with it.
type noting struct {
	credentials.TransportCredentials
	to *trouble
}

func (n noting) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	addr := conn.RemoteAddr().String()
	if f, ok := conn.(*firstRead); ok {
		conn = f.Conn
	}
	secured, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		n.to.note(addr, err, ctx.Err() == nil)
		return secured, info, err
	}
	// With TLS 1.3 the server's opinion of our certificate comes after the handshake.
	return alerts{secured, n.to}, info, nil
}

func (n noting) Clone() credentials.TransportCredentials {
	return noting{n.TransportCredentials.Clone(), n.to}
}

type alerts struct {
	net.Conn
	to *trouble
}

func (a alerts) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	if err != nil && strings.Contains(err.Error(), "tls: ") {
		a.to.note(a.RemoteAddr().String(), err, true)
	}
	return n, err
}
