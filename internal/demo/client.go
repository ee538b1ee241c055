package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// client speaks enough of Redis's protocol (RESP2) over one TCP connection, one command at a time.
type client struct {
	conn net.Conn
	r    *bufio.Reader
	buf  []byte
}

func dial(addr string) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, r: bufio.NewReader(conn)}, nil
}

// do sends one command and reads its reply: the text of a string, status or number, "" for nil.
func (c *client) do(timeout time.Duration, args ...string) (string, error) {
	c.buf = c.buf[:0]
	c.command(args...)
	_ = c.conn.SetDeadline(time.Now().Add(timeout))
	if _, err := c.conn.Write(c.buf); err != nil {
		return "", err
	}
	return c.reply()
}

func (c *client) command(args ...string) {
	c.buf = fmt.Appendf(c.buf, "*%d\r\n", len(args))
	for _, a := range args {
		c.buf = fmt.Appendf(c.buf, "$%d\r\n%s\r\n", len(a), a)
	}
}

func (c *client) reply() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", errors.New("empty reply")
	}
	switch line[0] {
	case '+', ':':
		return line[1:], nil
	case '-':
		return "", fmt.Errorf("redis: %s", line[1:])
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n > 1<<20 {
			return "", fmt.Errorf("bad reply %q", line)
		}
		if n < 0 {
			return "", nil
		}
		b := make([]byte, n+2)
		for read := 0; read < len(b); {
			m, err := c.r.Read(b[read:])
			if err != nil {
				return "", err
			}
			read += m
		}
		return string(b[:n]), nil
	}
	return "", fmt.Errorf("bad reply %q", line)
}

// Load drives Redis over one connection and remembers every acknowledged write.
type Load struct {
	c      *client
	prefix string

	mu         sync.Mutex
	counter    int64             // acknowledged increments
	values     map[string]string // acknowledged SETs
	acks       int
	lastAck    time.Time
	gaps       []gap
	failure    error
	duplicated int
}

// gap is the stretch between two acknowledgements.
type gap struct {
	from, to time.Time
}

// Await connects to Redis at addr as soon as it answers.
func Await(ctx context.Context, addr, prefix string) (*Load, error) {
	for {
		c, err := dial(addr)
		if err == nil {
			var pong string
			if pong, err = c.do(10*time.Second, "PING"); err == nil && pong == "PONG" {
				return &Load{c: c, prefix: prefix, values: map[string]string{}}, nil
			}
			c.conn.Close()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("redis in the guest did not answer at %s: %w (last: %v)", addr, context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// replyTimeout is how long one reply may take before the load counts the connection as lost.
const replyTimeout = 60 * time.Second

// Run writes until ctx ends or the connection fails: an INCR, whose reply shows at once if one was lost or
// done twice, and a SET of a recorded value, in turn.
func (l *Load) Run(ctx context.Context) error {
	l.mu.Lock()
	l.lastAck = time.Now()
	l.mu.Unlock()
	for i := 0; ctx.Err() == nil; i++ {
		if err := l.once(i); err != nil {
			l.mu.Lock()
			l.failure = err
			l.mu.Unlock()
			return err
		}
	}
	return nil
}

func (l *Load) once(i int) error {
	if i%2 == 0 {
		got, err := l.c.do(replyTimeout, "INCR", l.prefix+":counter")
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(got, 10, 64)
		if err != nil {
			return fmt.Errorf("INCR answered %q", got)
		}
		l.mu.Lock()
		l.counter++
		if n > l.counter {
			l.duplicated += int(n - l.counter)
			l.counter = n
		} else if n < l.counter {
			// What was acknowledged is gone: Verify counts it.
			l.failure = fmt.Errorf("INCR answered %d after %d acknowledged increments", n, l.counter)
		}
		l.acked()
		l.mu.Unlock()
		return nil
	}
	key := fmt.Sprintf("%s:%d", l.prefix, i%2000)
	value := fmt.Sprintf("%d-%d", i, time.Now().UnixNano())
	if _, err := l.c.do(replyTimeout, "SET", key, value); err != nil {
		return err
	}
	l.mu.Lock()
	l.values[key] = value
	l.acked()
	l.mu.Unlock()
	return nil
}

// acked notes an acknowledgement; l.mu is held.
func (l *Load) acked() {
	now := time.Now()
	if l.gaps = append(l.gaps, gap{l.lastAck, now}); len(l.gaps) > 2*keptGaps {
		l.gaps = l.gaps[:copy(l.gaps, l.gaps[len(l.gaps)-keptGaps:])]
	}
	l.lastAck = now
	l.acks++
}

// Acks is the number of acknowledged writes so far.
func (l *Load) Acks() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acks
}

// keptGaps is how many of the last acknowledgements Blackout can look back on: at a few thousand a second,
// more than a minute.
const keptGaps = 200_000

// blackoutBegins is how long after a failure a client may still be served, by replies that were under way.
const blackoutBegins = 500 * time.Millisecond

// Blackout is the longest stretch without an acknowledgement that a failure at the moment at can have
// caused: one that ended after it, and began before it or soon after.
func (l *Load) Blackout(at time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := time.Duration(0)
	for _, g := range l.gaps {
		if g.to.After(at) && g.from.Before(at.Add(blackoutBegins)) {
			longest = max(longest, g.to.Sub(g.from))
		}
	}
	return longest
}

// Verify reads back everything that was acknowledged, over the same connection, after Run has returned.
func (l *Load) Verify() (lost, duplicated int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	got, err := l.c.do(replyTimeout, "GET", l.prefix+":counter")
	if err != nil {
		return 0, 0, fmt.Errorf("read back the counter: %w", err)
	}
	n, _ := strconv.ParseInt(got, 10, 64)
	duplicated = l.duplicated
	if n < l.counter {
		lost += int(l.counter - n)
	} else if l.failure == nil {
		duplicated += int(n - l.counter)
	}
	for key, want := range l.values {
		got, err := l.c.do(replyTimeout, "GET", key)
		if err != nil {
			return lost, duplicated, fmt.Errorf("read back %s: %w", key, err)
		}
		if got != want {
			lost++
		}
	}
	return lost, duplicated, nil
}

// Counter reads the counter that all loads of this prefix increment. It must not be called while Run runs.
func (l *Load) Counter() (int64, error) {
	got, err := l.c.do(replyTimeout, "GET", l.prefix+":counter")
	if err != nil || got == "" {
		return 0, err
	}
	return strconv.ParseInt(got, 10, 64)
}

// Close ends the connection.
func (l *Load) Close() { l.c.conn.Close() }
