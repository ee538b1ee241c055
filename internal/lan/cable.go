package lan

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// readerBytes is the buffer of one cable's reader.
	readerBytes = 128 << 10
	// maxHandshakes bounds the peers that are showing their certificates. One more is closed at once, and
	// tries again.
	maxHandshakes = 256
	// handshakeTimeout bounds the showing.
	handshakeTimeout = 5 * time.Second
)

// cable is a joined port's connection.
type cable struct {
	conn  net.Conn
	raw   io.Closer // what to close: below TLS, whose own Close may wait for a peer that does not read
	port  *swPort
	queue *outQueue
}

// Join plugs a connection into the switch; the LAN owns and closes it from then on. With Config.Identity the
// peer must show a certificate first, and Join does not wait for that.
func (l *LAN) Join(conn net.Conn) error {
	if l.cfg.Identity != nil {
		return l.joinTLS(conn)
	}
	c, err := l.plug(conn, conn, peerName(conn))
	if err != nil {
		return err
	}
	if !l.start(func() { l.runCable(c) }) {
		l.unplug(c)
		return ErrClosed
	}
	return nil
}

// joinTLS plugs a connection in once its peer has shown a certificate of our authority.
func (l *LAN) joinTLS(conn net.Conn) error {
	select {
	case l.handshakes <- struct{}{}:
	default:
		return fmt.Errorf("%d peers are showing certificates already", maxHandshakes)
	}
	if !l.start(func() {
		secure := tls.Server(conn, l.cfg.Identity.Server(""))
		ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
		err := secure.HandshakeContext(ctx)
		cancel()
		<-l.handshakes
		var c *cable
		if err == nil {
			c, err = l.plug(secure, conn, secure.ConnectionState().PeerCertificates[0].Subject.CommonName+"@"+peerName(conn))
		}
		if err != nil {
			l.refused.Add(1)
			if l.logged.allow() {
				l.log.Warn("port refused", "peer", peerName(conn), "err", err)
			}
			conn.Close()
			return
		}
		l.runCable(c)
	}) {
		<-l.handshakes
		return ErrClosed
	}
	return nil
}

func peerName(c net.Conn) string {
	if s := c.RemoteAddr().String(); s != "" && s != "@" {
		return s
	}
	return c.LocalAddr().String()
}

func (l *LAN) plug(conn net.Conn, raw io.Closer, name string) (*cable, error) {
	c := &cable{conn: conn, raw: raw, queue: newOutQueue(l.cfg.QueueBytes)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	port, err := l.sw.add(name, func(f []byte) { c.queue.push(f) })
	if err != nil {
		return nil, err
	}
	c.port = port
	port.name = fmt.Sprintf("%d(%s)", port.id, name)
	l.cables[c] = struct{}{}
	return c, nil
}

func (l *LAN) unplug(c *cable) {
	l.sw.remove(c.port)
	c.raw.Close()
	c.queue.close()
	l.mu.Lock()
	delete(l.cables, c)
	l.mu.Unlock()
}

// runCable moves frames of one port until its connection ends.
func (l *LAN) runCable(c *cable) {
	l.log.Info("port joined", "port", c.port.name)
	var writer sync.WaitGroup
	writer.Go(func() {
		if c.queue.run(c.conn) != nil {
			c.raw.Close() // ends the reader
		}
	})
	r := bufio.NewReaderSize(c.conn, readerBytes)
	buf := make([]byte, MaxFrame)
	var err error
	for {
		var f []byte
		if f, err = ReadFrame(r, buf); err != nil {
			break
		}
		l.sw.forward(c.port, f)
	}
	l.unplug(c)
	writer.Wait()
	l.cableDropped.Add(c.queue.dropped.Load())
	var bad *FramingError
	if errors.As(err, &bad) {
		l.framingErrors.Add(1)
	}
	if err == io.EOF || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	l.log.Info("port left", "port", c.port.name, "dropped", c.queue.dropped.Load(), "err", err)
}
