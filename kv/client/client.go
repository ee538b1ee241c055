// Package client talks to a group of key-value servers (understudy kv serve): it finds the primary by the view service, follows
// it when it changes, and repeats what was not answered, so that each operation is executed once.
//
//	c, err := client.New(client.Options{Group: "cache", Views: copies})
//	err = c.Put(ctx, []byte("key"), []byte("value"))
package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy/kv/resp"
	"understudy/view/httpview"
)

// Options describe a Client. Group and Views are needed.
type Options struct {
	Group string
	Views []httpview.Copy // copies of the view service, asked in this order until one answers

	ID       string      // names the client to the servers, unique; default: random
	Password string      // empty: none
	TLS      *tls.Config // nil: none; without a ServerName, servers must show certificates of their names in views
	// Dial connects to a server. Default: by TCP.
	Dial    func(ctx context.Context, addr string) (net.Conn, error)
	Timeout time.Duration // silence after which a server is given up and the view service asked; default 1 s
}

// Client does one operation at a time: use several for operations side by side. Safe for concurrent use.
type Client struct {
	opt Options

	mu     sync.Mutex
	number uint64 // of the newest operation
	addr   string // of the primary, as far as we know; empty: ask
	name   string // of the primary in views
	conn   net.Conn
	in     *resp.ReplyReader
	asked  uint64
	tried  uint64
}

// retryAfter is the pause before the view service is asked again.
const retryAfter = 10 * time.Millisecond

// Error is what a server answered to an operation that it executed.
type Error string

func (e Error) Error() string { return string(e) }

// New makes a client. It connects when first used.
func New(o Options) (*Client, error) {
	if o.Group == "" || len(o.Views) == 0 {
		return nil, errors.New("a client needs a group and a view service")
	}
	if o.ID == "" {
		o.ID = rand.Text()
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Second
	}
	if o.Dial == nil {
		var d net.Dialer
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	return &Client{opt: o}, nil
}

// Close ends the connection. The client stays usable.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
}

// Stats tell how often the view service was asked, and how often an operation was tried.
func (c *Client) Stats() (asked, tried uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked, c.tried
}

// Put sets a key. On an error of ctx it may be executed or not.
func (c *Client) Put(ctx context.Context, key, value []byte) error {
	_, err := c.Do(ctx, []byte("SET"), key, value)
	return err
}

// Get reads a key. ok is false if there is none.
func (c *Client) Get(ctx context.Context, key []byte) (value []byte, ok bool, err error) {
	v, err := c.Do(ctx, []byte("GET"), key)
	return v.Str, err == nil && v.Kind != resp.Null, err
}

// Append appends to a key, which need not exist, and gives the length of the result. On an error of ctx it may be executed or not.
func (c *Client) Append(ctx context.Context, key, value []byte) (length int64, err error) {
	v, err := c.Do(ctx, []byte("APPEND"), key, value)
	return v.Int, err
}

// Do has any command of package kv executed at most once, outside of transactions, and returns its reply; an error reply is
// an Error. It tries until ctx ends.
func (c *Client) Do(ctx context.Context, args ...[]byte) (resp.Value, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.number++
	request := resp.AppendCommand(nil, append([][]byte{
		[]byte("UNDERSTUDY.ONCE"), []byte(c.opt.ID), strconv.AppendUint(nil, c.number, 10),
	}, args...)...)
	var last error
	for ctx.Err() == nil {
		v, err := c.try(ctx, request)
		if err == nil {
			if v.Kind == resp.Error || v.Kind == resp.BigError {
				return v, Error(v.Str)
			}
			return v, nil
		}
		last = err
		c.drop()
		c.addr = ""
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
	}
	if last != nil {
		return resp.Value{}, fmt.Errorf("%w; last: %w", context.Cause(ctx), last)
	}
	return resp.Value{}, context.Cause(ctx)
}

func (c *Client) drop() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// try sends the request to the primary that we know of. An error says that another try may do better.
func (c *Client) try(ctx context.Context, request []byte) (v resp.Value, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return v, err
		}
	}
	c.tried++
	return c.call(ctx, request)
}

func (c *Client) call(ctx context.Context, request []byte) (v resp.Value, err error) {
	deadline, _ := ctx.Deadline()
	_ = c.conn.SetDeadline(deadline)
	conn := c.conn
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.conn.Write(request); err != nil {
		return v, err
	}
	if v, err = c.in.Read(); err != nil {
		return v, err
	}
	if v.Kind == resp.Error {
		code, _, _ := strings.Cut(string(v.Str), " ")
		switch code {
		case "READONLY", "MASTERDOWN":
			return v, errors.New(string(v.Str))
		}
	}
	return v, nil
}

// connect asks who is primary, unless that is known, and connects to it.
func (c *Client) connect(ctx context.Context) error {
	if c.addr == "" {
		if err := c.ask(ctx); err != nil {
			return err
		}
	}
	conn, err := c.opt.Dial(ctx, c.addr)
	if err != nil {
		return err
	}
	if config := c.opt.TLS; config != nil {
		if config.ServerName == "" {
			config = config.Clone()
			config.ServerName = c.name
		}
		conn = tls.Client(conn, config)
	}
	c.conn, c.in = conn, resp.NewReplyReader(conn)
	if c.opt.Password != "" {
		v, err := c.call(ctx, resp.AppendCommand(nil, []byte("AUTH"), []byte(c.opt.Password)))
		if err == nil && v.Kind == resp.Error {
			err = errors.New(string(v.Str))
		}
		return err
	}
	return nil
}

func (c *Client) ask(ctx context.Context) error {
	c.asked++
	err := errors.New("no view service")
	for _, one := range c.opt.Views {
		a, e := one.Get(ctx, c.opt.Group)
		switch {
		case e != nil:
			err = e
		case a.PrimaryClient == "":
			err = fmt.Errorf("the primary of %q is not known yet", c.opt.Group)
		default:
			c.addr, c.name = a.PrimaryClient, a.View.Primary
			return nil
		}
	}
	return fmt.Errorf("find the primary: %w", err)
}
