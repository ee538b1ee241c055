package torture

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// valueMaxBytes bounds a value that Redis may answer with.
const valueMaxBytes = 1 << 20

// redisConn speaks enough of Redis's protocol (RESP2) over one TCP connection, which is never opened again.
type redisConn struct {
	conn  net.Conn
	r     *bufio.Reader
	buf   []byte
	limit time.Duration // for one reply
}

func dialRedis(addr string, limit time.Duration) (*redisConn, error) {
	conn, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		return nil, err
	}
	return &redisConn{conn: conn, r: bufio.NewReader(conn), limit: limit}, nil
}

func (c *redisConn) add(args ...string) {
	c.buf = fmt.Appendf(c.buf, "*%d\r\n", len(args))
	for _, a := range args {
		c.buf = fmt.Appendf(c.buf, "$%d\r\n%s\r\n", len(a), a)
	}
}

// flush sends what was added.
func (c *redisConn) flush() error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.limit))
	_, err := c.conn.Write(c.buf)
	c.buf = c.buf[:0]
	return ended(err)
}

// ended makes a violation of the error of a connection.
func ended(err error) error {
	var timeout net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &timeout) && timeout.Timeout():
		return violation(Silent, "no reply within the bound: %v", err)
	}
	return violation(Broken, "the connection has ended: %v", err)
}

// reply reads one reply: the text of a string, status or number, "" for nil.
func (c *redisConn) reply() (string, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(c.limit))
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", ended(err)
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", violation(Wrong, "an empty reply")
	}
	switch line[0] {
	case '+', ':':
		return line[1:], nil
	case '-':
		return "", violation(Wrong, "Redis answered: %s", line[1:])
	case '$':
		n, err := strconv.Atoi(line[1:])
		switch {
		case err != nil || n > valueMaxBytes:
			return "", violation(Wrong, "reply %q", line)
		case n < 0:
			return "", nil
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(c.r, b); err != nil {
			return "", ended(err)
		}
		return string(b[:n]), nil
	}
	return "", violation(Wrong, "reply %q", line)
}

// readBack reads all entries and compares them.
func (c *redisConn) readBack(all []entry, each func()) error {
	const batch = 50
	for len(all) > 0 {
		now := all[:min(batch, len(all))]
		all = all[len(now):]
		for _, e := range now {
			c.add("GET", e.key)
		}
		if err := c.flush(); err != nil {
			return err
		}
		for _, e := range now {
			got, err := c.reply()
			if err != nil {
				return err
			}
			each()
			if v := e.compare(got); v != nil {
				return v
			}
		}
	}
	return nil
}

func (c *redisConn) close() { c.conn.Close() }
