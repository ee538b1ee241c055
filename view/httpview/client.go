package httpview

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"understudy/view"
)

// DefaultTimeout bounds one call of a Client unless its context ends earlier.
const DefaultTimeout = 2 * time.Second

// ErrUnreachable reports that a copy of the service did not give an answer that makes sense. A ping or a
// switch may have been taken.
var ErrUnreachable = errors.New("view service unreachable")

// ClientOptions tune NewClient. The zero value is ready for use.
type ClientOptions struct {
	Timeout   time.Duration     // bounds each call; 0 means DefaultTimeout
	TLS       *tls.Config       // for https; nil means the system's defaults
	Transport http.RoundTripper // instead of the network, for tests
}

// Client asks one copy of the view service. Errors wrap ErrUnreachable or one of package view. Safe for
// concurrent use.
type Client struct {
	base    string
	http    *http.Client
	timeout time.Duration
}

// NewClient returns a client of the server at address: "http://host:port", "https://host:port" or
// "unix:/path/to/socket". It connects when first used.
func NewClient(address string, o ClientOptions) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	dialer := &net.Dialer{Timeout: o.Timeout, KeepAlive: 5 * time.Second}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: o.TLS, MaxIdleConnsPerHost: 16}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
		address = "http://view"
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("view service address %q: want http://host:port, https://host:port or unix:/path", address)
	}
	c := &Client{base: strings.TrimRight(u.String(), "/"), http: &http.Client{Transport: transport}, timeout: o.Timeout}
	if o.Transport != nil {
		c.http.Transport = o.Transport
	}
	return c, nil
}

// Close drops idle connections. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Ping implements Copy.
func (c *Client) Ping(ctx context.Context, p view.Ping) (view.Answer, error) {
	if err := p.Validate(); err != nil {
		return view.Answer{}, err
	}
	var a view.Answer
	err := c.call(ctx, http.MethodPost, "/v1/views/"+p.Group+"/ping", p, &a)
	return a, err
}

// Get implements Copy.
func (c *Client) Get(ctx context.Context, group string) (view.Answer, error) {
	var a view.Answer
	err := c.call(ctx, http.MethodGet, "/v1/views/"+url.PathEscape(group), nil, &a)
	return a, err
}

// Status is Service.Status.
func (c *Client) Status(ctx context.Context, group string) (view.Status, error) {
	var st view.Status
	err := c.call(ctx, http.MethodGet, "/v1/views/"+url.PathEscape(group)+"/status", nil, &st)
	return st, err
}

// Switch is Service.Switch.
func (c *Client) Switch(ctx context.Context, group string) (view.Number, error) {
	var r switchReply
	err := c.call(ctx, http.MethodPost, "/v1/views/"+url.PathEscape(group)+"/switch", nil, &r)
	return r.Target, err
}

// Drain is Service.Drain.
func (c *Client) Drain(ctx context.Context, server string, on bool) ([]string, error) {
	var r drainReply
	err := c.call(ctx, http.MethodPost, "/v1/drain", drainRequest{Server: server, Drain: on}, &r)
	return r.Holding, err
}

// Counts is Service.Counts.
func (c *Client) Counts(ctx context.Context) (view.Counts, error) {
	var n view.Counts
	err := c.call(ctx, http.MethodGet, "/v1/counts", nil, &n)
	return n, err
}

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var send []byte
	if body != nil {
		var err error
		if send, err = json.Marshal(body); err != nil {
			return fmt.Errorf("%w: %w", view.ErrInvalid, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(send))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if send != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: read answer: %w", ErrUnreachable, err)
	case len(text) > maxReplyBytes:
		return fmt.Errorf("%w: answer of more than %d bytes", ErrUnreachable, maxReplyBytes)
	case resp.StatusCode == http.StatusOK:
		if err := json.Unmarshal(text, into); err != nil {
			return fmt.Errorf("%w: read answer: %w", ErrUnreachable, err)
		}
		return nil
	}
	var why errorReply
	if json.Unmarshal(text, &why) == nil {
		for _, known := range codes {
			if known.code == why.Code && known.status == resp.StatusCode {
				return fmt.Errorf("%w: %s", known.err, why.Error)
			}
		}
	}
	return fmt.Errorf("%w: %s %s: status %d", ErrUnreachable, method, path, resp.StatusCode)
}
