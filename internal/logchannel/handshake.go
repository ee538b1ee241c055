package logchannel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"understudy/internal/pki"
)

// HandshakeTimeout bounds the exchange of Hello and Welcome.
const HandshakeTimeout = 5 * time.Second

// ErrRefused is wrapped by the error that a primary gets when its backup does not take it.
var ErrRefused = errors.New("the backup refused")

// Hello is how a primary opens the log channel: who it is and what it replicates, P. The backup refuses what it is not
// made for.
type Hello[P any] struct {
	Version int    `json:"version"` // of all that goes over the channel. Sides of different versions refuse each other
	Group   string `json:"group"`
	From    string `json:"from"`
	To      string `json:"to"`
	Life    string `json:"life"`           // the primary's incarnation
	View    uint64 `json:"view,omitempty"` // in a group: the view whose backup is to receive the state
	Machine P      `json:"machine"`
}

// Welcome is the backup's answer.
type Welcome struct {
	Life  string `json:"life,omitempty"`  // the backup's incarnation
	Error string `json:"error,omitempty"` // why the backup refuses; empty: it does not
}

// SendJSON writes one frame with v.
func SendJSON(conn net.Conn, kind byte, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = conn.Write(endFrame(append(beginFrame(nil, kind), body...), 0))
	return err
}

// ReceiveJSON reads one frame of the wanted kind into v.
func ReceiveJSON(r *bufio.Reader, want byte, v any) error {
	var buf []byte
	kind, body, err := ReadFrame(r, &buf)
	if err != nil {
		return err
	}
	if kind != want {
		return fmt.Errorf("%w: kind %#x during the handshake", ErrFrame, kind)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %v", ErrFrame, err)
	}
	return nil
}

// Dial connects to the backup, waiting for it to appear until ctx ends. life is the backup's incarnation. id, if set, has
// both ends show certificates.
func Dial[P any](ctx context.Context, addr string, id *pki.Identity, h Hello[P]) (ch *Channel, life string, err error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			if id != nil {
				conn = tls.Client(conn, id.Client(h.To))
			}
			return greet(conn, h)
		}
		select {
		case <-ctx.Done():
			return nil, "", fmt.Errorf("reach backup %s at %s: %w", h.To, addr, err)
		case <-time.After(pause):
		}
	}
}

func greet[P any](conn net.Conn, h Hello[P]) (*Channel, string, error) {
	_ = conn.SetDeadline(time.Now().Add(HandshakeTimeout))
	in := bufio.NewReaderSize(conn, 256<<10)
	err := SendJSON(conn, KindHello, h)
	var w Welcome
	if err == nil {
		err = ReceiveJSON(in, KindWelcome, &w)
	}
	if err == nil && w.Error != "" {
		err = fmt.Errorf("%w: %s", ErrRefused, w.Error)
	}
	if err != nil {
		conn.Close()
		return nil, "", fmt.Errorf("greet backup %s: %w", h.To, err)
	}
	_ = conn.SetDeadline(time.Time{})
	return New(conn, in), w.Life, nil
}

// Caller is a primary that has opened a connection and said hello.
type Caller[P any] struct {
	Hello[P]
	conn net.Conn
	in   *bufio.Reader
}

// Hear reads what a caller says first. id, if set, has it show a certificate of the name peer; empty: any name of the CA
// will do here, and CheckName is to follow.
func Hear[P any](conn net.Conn, id *pki.Identity, peer string) (*Caller[P], error) {
	if id != nil {
		conn = tls.Server(conn, id.Server(peer))
	}
	_ = conn.SetDeadline(time.Now().Add(HandshakeTimeout))
	c := &Caller[P]{conn: conn, in: bufio.NewReaderSize(conn, 256<<10)}
	if err := ReceiveJSON(c.in, KindHello, &c.Hello); err != nil {
		conn.Close()
		return nil, refusal(conn, err)
	}
	return c, nil
}

func refusal(conn net.Conn, err error) error {
	return fmt.Errorf("refused a primary at %s: %w", conn.RemoteAddr(), err)
}

// Refuse tells the caller why not, and hangs up.
func (c *Caller[P]) Refuse(err error) error {
	_ = SendJSON(c.conn, KindWelcome, Welcome{Error: err.Error()})
	c.conn.Close()
	return refusal(c.conn, err)
}

// Accept welcomes the caller; life is our incarnation.
func (c *Caller[P]) Accept(life string) (*Channel, error) {
	if err := SendJSON(c.conn, KindWelcome, Welcome{Life: life}); err != nil {
		c.conn.Close()
		return nil, refusal(c.conn, err)
	}
	_ = c.conn.SetDeadline(time.Time{})
	return New(c.conn, c.in), nil
}

// Check compares what the caller says with what is expected here.
func (c *Caller[P]) Check(version int, group, self string) error {
	switch {
	case c.Version != version:
		return fmt.Errorf("protocol versions differ: the primary speaks %d, the backup %d", c.Version, version)
	case c.Group != group:
		return fmt.Errorf("groups differ: the primary is of %q, the backup of %q", c.Group, group)
	case c.To != self:
		return fmt.Errorf("names differ: %q calls %q, but here is %q", c.From, c.To, self)
	}
	return nil
}

// CheckName tells whether the caller's certificate, if it has shown one, has the name that it gave.
func (c *Caller[P]) CheckName() error {
	if t, ok := c.conn.(*tls.Conn); ok {
		if err := t.ConnectionState().PeerCertificates[0].VerifyHostname(c.From); err != nil {
			return fmt.Errorf("%q does not show a certificate with its name: %w", c.From, err)
		}
	}
	return nil
}
