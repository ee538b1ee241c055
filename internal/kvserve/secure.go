package kvserve

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// handshakePatience is how long a client may take to show its certificate.
	handshakePatience = 10 * time.Second
	// refusalEvery bounds how often the log tells of clients that were refused.
	refusalEvery = time.Second
)

// secured is an encrypted connection, whose handshake comes with the first Read.
type secured struct {
	*tls.Conn
	s    *Server
	once sync.Once
	err  error
}

// refusals is when the log last told of a client without a good certificate, in unix nanoseconds.
type refusals struct{ told atomic.Int64 }

func (s *Server) secure(nc net.Conn) net.Conn { return &secured{Conn: tls.Server(nc, s.opt.TLS), s: s} }

func (c *secured) Read(b []byte) (int, error) {
	c.once.Do(func() {
		_ = c.SetDeadline(time.Now().Add(handshakePatience))
		if c.err = c.Handshake(); c.err == nil {
			_ = c.SetDeadline(time.Time{})
			return
		}
		now, told := time.Now().UnixNano(), c.s.refusals.told.Load()
		if now-told > int64(refusalEvery) && c.s.refusals.told.CompareAndSwap(told, now) {
			c.s.log.Info("refused a client", "client", c.RemoteAddr().String(), "err", c.err)
		}
	})
	if c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(b)
}
