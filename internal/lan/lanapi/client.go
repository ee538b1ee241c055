package lanapi

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
)

// DefaultTimeout bounds one call of a Client unless its context ends earlier. A put waits for a disk.
const DefaultTimeout = 10 * time.Second

// ErrUnreachable reports that the daemon did not give an answer that makes sense. A put or delete may have
// been carried out; repeat it.
var ErrUnreachable = errors.New("LAN daemon unreachable")

// ClientOptions tune NewClient. The zero value is ready for use.
type ClientOptions struct {
	Timeout time.Duration // bounds each call; 0 means DefaultTimeout
	TLS     *tls.Config   // for https: pki.Identity.Client(lan.CertificateName); nil means the system's defaults
}

// Client asks a daemon. Errors wrap ErrUnreachable or one that Daemon's methods return. Safe for concurrent
// use.
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
	transport := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: o.TLS}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
		address = "http://lan"
		if o.TLS != nil {
			address = "https://lan"
		}
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("LAN daemon address %q: want http://host:port, https://host:port or unix:/path", address)
	}
	return &Client{base: strings.TrimRight(u.String(), "/"), http: &http.Client{Transport: transport}, timeout: o.Timeout}, nil
}

// Close drops idle connections. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Put is Daemon.Put.
func (c *Client) Put(ctx context.Context, name string, spec Spec) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodPut, "/v1/lans/"+url.PathEscape(name), spec, &s)
	return s, err
}

// Get is Daemon.Get.
func (c *Client) Get(ctx context.Context, name string) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodGet, "/v1/lans/"+url.PathEscape(name), nil, &s)
	return s, err
}

// List is Daemon.List.
func (c *Client) List(ctx context.Context) ([]Status, error) {
	var r listReply
	err := c.call(ctx, http.MethodGet, "/v1/lans", nil, &r)
	return r.LANs, err
}

// Delete is Daemon.Delete. One that is repeated because its answer was lost may say ErrNotFound.
func (c *Client) Delete(ctx context.Context, name string) error {
	var r deleteReply
	return c.call(ctx, http.MethodDelete, "/v1/lans/"+url.PathEscape(name), nil, &r)
}

// refusal is the daemon's error on this side of the network.
type refusal struct {
	kind error
	text string
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.kind }

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var send []byte
	if body != nil {
		var err error
		if send, err = json.Marshal(body); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
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
				return &refusal{known.err, why.Error}
			}
		}
	}
	return fmt.Errorf("%w: %s %s: status %d: %s", ErrUnreachable, method, path, resp.StatusCode, why.Error)
}
