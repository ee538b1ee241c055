package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	statusMaxBytes = 1 << 20
	// askTimeout is how long a replica may take to answer a question about itself.
	askTimeout = time.Second
	// commandTimeout is how long it may take to carry out a command.
	commandTimeout = 30 * time.Second
)

// child speaks to one replica on its unix socket.
type child struct {
	http *http.Client
}

func newChild(socket string) *child {
	var d net.Dialer
	return &child{http: &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) },
		DisableCompression: true,
		MaxIdleConns:       2,
	}}}
}

func (c *child) close() { c.http.CloseIdleConnections() }

// refusal is an answer of the replica other than success.
type refusal struct {
	code int // of HTTP
	text string
}

func (r *refusal) Error() string { return r.text }

// do asks, and gives the body of a successful answer, which the caller closes.
func (c *child) do(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	u := "http://replica" + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 8<<10))
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(text, &said) != nil || said.Error == "" {
		said.Error = orElse(string(bytes.TrimSpace(text)), resp.Status)
	}
	return nil, &refusal{resp.StatusCode, said.Error}
}

// status asks the replica how it is.
func (c *child) status(ctx context.Context) (status, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, "/status", nil, nil)
	if err != nil {
		return status{}, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, statusMaxBytes+1))
	if err != nil {
		return status{}, nil, err
	}
	if len(raw) > statusMaxBytes {
		return status{}, nil, errors.New("read the replica's status: it is too long")
	}
	s, err := parseStatus(raw)
	if err != nil {
		return status{}, nil, fmt.Errorf("read the replica's status: %w", err)
	}
	return s, bytes.TrimSpace(raw), nil
}

// console opens the guest's console from an offset on, and gives the offset of the first byte that comes.
func (c *child) console(ctx context.Context, n int, from int64, follow bool) (io.ReadCloser, int64, error) {
	q := url.Values{"n": {strconv.Itoa(n)}, "from": {strconv.FormatInt(from, 10)}}
	if follow {
		q.Set("follow", "1")
	}
	resp, err := c.do(ctx, http.MethodGet, "/console", q, nil)
	if err != nil {
		return nil, 0, err
	}
	at := from
	if h := resp.Header.Get("X-Offset"); h != "" {
		if at, err = strconv.ParseInt(h, 10, 64); err != nil {
			resp.Body.Close()
			return nil, 0, fmt.Errorf("read the console's offset: %w", err)
		}
	}
	return resp.Body, at, nil
}

// command carries out a POST and decodes the answer into out, if that is not nil.
func (c *child) command(ctx context.Context, path string, query url.Values, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	resp, err := c.do(ctx, http.MethodPost, path, query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, statusMaxBytes))
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("read the replica's answer to %s: %w", path, err)
	}
	return nil
}
