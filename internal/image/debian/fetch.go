package debian

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"understudy/internal/image/progress"
)

const (
	fetchTries       = 3
	fetchIdleTimeout = 30 * time.Second // without a byte: the connection counts as dead
)

// fetcher downloads files from one mirror.
type fetcher struct {
	base     string
	client   *http.Client
	progress progress.Progress
	pause    time.Duration // before the second try; doubled before the third
}

// newClient gives a client with time-outs for every phase and the proxy of the environment, or else apt's.
func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = 30 * time.Second
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		if u, err := http.ProxyFromEnvironment(r); u != nil || err != nil {
			return u, err
		}
		if p, ok := aptProxy("/etc/apt", r.URL.Scheme); ok && p != "" && !strings.EqualFold(p, "DIRECT") {
			return url.Parse(p)
		}
		return nil, nil
	}
	return &http.Client{Transport: t}
}

// statusError is an answer other than 200 OK.
type statusError struct {
	uri    string
	status string
	code   int
}

func (e *statusError) Error() string { return fmt.Sprintf("fetch %s: %s", e.uri, e.status) }

// uri is the full address of a path below the mirror. '+' is written %2B: some servers take a bare '+' for a blank.
func (f *fetcher) uri(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(url.PathEscape(p), "+", "%2B")
	}
	return f.base + "/" + strings.Join(parts, "/")
}

// fetch downloads path into w, which is emptied before each try. check, when set, judges the content after the last
// byte; its refusal counts as a failed try (a damaged transfer may come right the next time).
func (f *fetcher) fetch(ctx context.Context, name, path string, sizeBytes, maxBytes int64, w *os.File, check func() error) error {
	var err error
	for try := range fetchTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(f.pause << (try - 1)):
			}
		}
		if err = w.Truncate(0); err != nil {
			return fmt.Errorf("empty temporary file: %w", err)
		}
		if _, err = w.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("empty temporary file: %w", err)
		}
		err = f.once(ctx, name, path, sizeBytes, maxBytes, w)
		if err == nil && check != nil {
			err = check()
		}
		var status *statusError
		if err == nil || ctx.Err() != nil || errors.As(err, &status) && status.code < 500 && status.code != http.StatusTooManyRequests {
			return err
		}
	}
	return err
}

func (f *fetcher) once(ctx context.Context, name, path string, sizeBytes, maxBytes int64, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	uri := f.uri(path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", uri, err)
	}
	// The bytes as they lie on the server: transparent decompression would break sizes and hashes.
	request.Header.Set("Accept-Encoding", "identity")
	request.Header.Set("User-Agent", "understudy")
	idle := time.AfterFunc(fetchIdleTimeout, func() {
		cancel(fmt.Errorf("no data for %v", fetchIdleTimeout))
	})
	defer idle.Stop()
	response, err := f.client.Do(request)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", uri, causeOf(ctx, err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return &statusError{uri, response.Status, response.StatusCode}
	}
	if sizeBytes <= 0 {
		sizeBytes = response.ContentLength
	}
	task := f.progress.Start(name, sizeBytes)
	defer task.Done()
	n, err := io.Copy(w, io.LimitReader(&idleReader{progress.Reader(response.Body, task), idle}, maxBytes+1))
	if err != nil {
		return fmt.Errorf("fetch %s: %w", uri, causeOf(ctx, err))
	}
	if n > maxBytes {
		return fmt.Errorf("fetch %s: %w: more than %d bytes", uri, ErrMismatch, maxBytes)
	}
	return nil
}

func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// idleReader puts the idle timer back with each read.
type idleReader struct {
	r     io.Reader
	timer *time.Timer
}

func (i *idleReader) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	i.timer.Reset(fetchIdleTimeout)
	return n, err
}

// fetchHashed downloads a file whose size and hash are known into a temporary file of the cache. The caller closes
// and removes it, or commits it.
func (f *fetcher) fetchHashed(ctx context.Context, c *Cache, name, path string, sizeBytes int64, sum [32]byte) (*os.File, error) {
	w, err := c.temp()
	if err != nil {
		return nil, err
	}
	err = f.fetch(ctx, name, path, sizeBytes, sizeBytes, w, func() error {
		if _, err := w.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read temporary file: %w", err)
		}
		h := sha256.New()
		n, err := io.Copy(h, w)
		switch {
		case err != nil:
			return fmt.Errorf("read temporary file: %w", err)
		case n != sizeBytes:
			return fmt.Errorf("fetch %s: %w: %d bytes, want %d", f.uri(path), ErrMismatch, n, sizeBytes)
		case [32]byte(h.Sum(nil)) != sum:
			return fmt.Errorf("fetch %s: %w: SHA-256 is %x, want %x", f.uri(path), ErrMismatch, h.Sum(nil), sum)
		}
		return nil
	})
	if err != nil {
		w.Close()
		os.Remove(w.Name())
		return nil, err
	}
	return w, nil
}
