package httparb

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"understudy/arbiter"
)

// DefaultTimeout bounds one call of a Client unless its context ends earlier.
const DefaultTimeout = 2 * time.Second

// ClientOptions tune NewClient. The zero value is ready for use.
type ClientOptions struct {
	Timeout time.Duration // bounds each call; 0 means DefaultTimeout
	TLS     *tls.Config   // for https, see ClientTLS; nil means the system's defaults and no certificate of our own
}

// Client is an arbiter.Store that asks a Server. Its connections stay open between calls. Safe for
// concurrent use.
type Client struct {
	base    string
	http    *http.Client
	timeout time.Duration
	life    context.Context // ends with Close
	end     context.CancelFunc
}

// NewClient returns a client of the server at address: "http://host:port", "https://host:port" or
// "unix:/path/to/socket". It connects when first used; see Warm.
func NewClient(address string, o ClientOptions) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	dialer := &net.Dialer{Timeout: o.Timeout, KeepAlive: 5 * time.Second}
	transport := &http.Transport{
		DialContext:         dialer.DialContext,
		TLSClientConfig:     o.TLS,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     0, // warm until closed
		ForceAttemptHTTP2:   false,
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		path = "/" + strings.TrimLeft(path, "/")
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
		address = "http://arbiter"
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("arbiter address %q: want http://host:port, https://host:port or unix:/path", address)
	}
	c := &Client{
		base:    strings.TrimRight(u.String(), "/"),
		http:    &http.Client{Transport: transport},
		timeout: o.Timeout,
	}
	c.life, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Warm opens a connection, if none is open, and asks whether the store answers. A replica calls it every few
// seconds so that a claim, which is in the path of a failover, starts with a connection that works.
func (c *Client) Warm(ctx context.Context) error {
	var status map[string]string
	return c.call(ctx, c.timeout, http.MethodGet, "/healthz", nil, "", &status, maxReplyBytes)
}

// Close drops the connections. Calls and watches under way, and all later ones, fail with an error that wraps
// arbiter.ErrUnreachable. It always returns nil.
func (c *Client) Close() error {
	c.end()
	c.http.CloseIdleConnections()
	return nil
}

// Get implements arbiter.Register.
func (c *Client) Get(ctx context.Context, group string) (arbiter.Record, error) {
	if err := arbiter.ValidGroup(group); err != nil {
		return arbiter.Record{}, err
	}
	return c.record(ctx, "/v1/groups/"+group, c.timeout)
}

// record asks for one record.
func (c *Client) record(ctx context.Context, path string, timeout time.Duration) (arbiter.Record, error) {
	var rec arbiter.Record
	err := c.call(ctx, timeout, http.MethodGet, path, nil, "", &rec, maxReplyBytes)
	if err == nil && rec != (arbiter.Record{}) {
		if bad := rec.Validate(); bad != nil {
			return arbiter.Record{}, fmt.Errorf("%w: answer makes no sense: %v", arbiter.ErrUnreachable, bad)
		}
	}
	if err != nil {
		return arbiter.Record{}, err
	}
	return rec, nil
}

// Watch implements arbiter.Register, by requests that the server answers when there is news.
func (c *Client) Watch(ctx context.Context, group string, after uint64) (arbiter.Record, error) {
	if err := arbiter.ValidGroup(group); err != nil {
		return arbiter.Record{}, err
	}
	path := fmt.Sprintf("/v1/groups/%s/watch?after=%d&wait_ms=%d", group, after, defaultWait.Milliseconds())
	for {
		begun := time.Now()
		rec, err := c.record(ctx, path, c.timeout+defaultWait)
		if err != nil || rec.Number > after {
			return rec, err
		}
		if time.Since(begun) < defaultWait/2 {
			return arbiter.Record{}, fmt.Errorf("%w: the server does not wait for news", arbiter.ErrUnreachable)
		}
	}
}

// All asks for the current record of every group.
func (c *Client) All(ctx context.Context) (map[string]arbiter.Record, error) {
	var r groupsReply
	err := c.call(ctx, c.timeout, http.MethodGet, "/v1/groups", nil, "", &r, arbiter.MaxGroups*(maxBodyBytes+arbiter.MaxGroupBytes))
	return r.Groups, err
}

// CompareAndSet implements arbiter.Register.
func (c *Client) CompareAndSet(ctx context.Context, group string, next arbiter.Record) (arbiter.Record, bool, error) {
	if err := arbiter.ValidGroup(group); err != nil {
		return arbiter.Record{}, false, err
	}
	if err := next.Validate(); err != nil {
		return arbiter.Record{}, false, err
	}
	body, err := json.Marshal(next)
	if err != nil {
		return arbiter.Record{}, false, fmt.Errorf("%w: %v", arbiter.ErrInvalid, err)
	}
	var r claimReply
	if err := c.call(ctx, c.timeout, http.MethodPost, "/v1/groups/"+group+"/claim", body, next.Claimant, &r, maxReplyBytes); err != nil {
		return arbiter.Record{}, false, err
	}
	if r.Won != (r.Current == next) {
		return arbiter.Record{}, false, fmt.Errorf("%w: answer contradicts itself: won is %t, current is %+v", arbiter.ErrUnreachable, r.Won, r.Current)
	}
	return r.Current, r.Won, nil
}

// call makes one request within timeout and reads a JSON answer of at most maxBytes into reply.
func (c *Client) call(ctx context.Context, timeout time.Duration, method, path string, body []byte, claimant string, reply any, maxBytes int64) error {
	if c.life.Err() != nil {
		return fmt.Errorf("%w: the client is closed", arbiter.ErrUnreachable)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", arbiter.ErrUnreachable, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		// The rule of arbiter.Decide makes a repeated claim harmless. Saying so lets net/http send it again
		// on a fresh connection when a kept one turns out to be dead.
		req.Header["Idempotency-Key"] = []string{url.QueryEscape(claimant)}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if c.life.Err() != nil {
			return fmt.Errorf("%w: the client is closed", arbiter.ErrUnreachable)
		}
		return c.explain(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBytes+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: read answer: %w", arbiter.ErrUnreachable, err)
	case int64(len(text)) > maxBytes:
		return fmt.Errorf("%w: answer of more than %d bytes", arbiter.ErrUnreachable, maxBytes)
	case resp.StatusCode == http.StatusOK:
		if err := json.Unmarshal(text, reply); err != nil {
			return fmt.Errorf("%w: read answer: %w", arbiter.ErrUnreachable, err)
		}
		return nil
	}
	if wantsTLS(resp, text) {
		return fmt.Errorf("%w: %w: the server wants TLS: check the address, want https", arbiter.ErrUnreachable, ErrCertificate)
	}
	var why errorReply
	if json.Unmarshal(text, &why) != nil || why.Error == "" {
		why.Error = http.StatusText(resp.StatusCode)
	}
	kind := arbiter.ErrUnreachable
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		kind = arbiter.ErrRefused
	}
	return fmt.Errorf("%w: %s %s: status %d: %s", kind, method, path, resp.StatusCode, why.Error)
}
