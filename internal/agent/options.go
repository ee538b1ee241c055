package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"understudy/internal/pki"
)

// ControlName is the name in the certificate of the control process: the only one whose wishes a host carries out.
const ControlName = "control"

// Options describe a host.
type Options struct {
	Name    string   // of the host, in views and reports
	Dir     string   // where it keeps its replicas' files; one agent at a time
	Control []string // host:port of the control processes, tried in turn

	// Listener serves the agent's API for control, and /metrics. Advertise is the host or address under which
	// others reach this machine; its replicas listen there. Empty: the listener's address.
	Listener  net.Listener
	Advertise string

	MemBytes     uint64        // bounds the sum of the guests' memory; 0: no bound
	SuspectAfter time.Duration // for machines that name none; 0: the replica's default

	// Identity is the host's certificate, loaded from TLSDir, which the replicas are given too. Without it
	// nothing is authenticated: the caller sees to it that every address is one of loopback.
	Identity *pki.Identity
	TLSDir   string

	Version string
	Exe     string // the program whose `replica` command is run; empty: this one
	Log     *slog.Logger

	// images makes an image available; for tests.
	images func(ctx context.Context, name string, tell tell) (bootImage, error)
}

func (o *Options) setDefaults() error {
	switch {
	case o.Name == "":
		return errors.New("a host needs a name")
	case o.Dir == "":
		return errors.New("a host needs a directory")
	case len(o.Control) == 0:
		return errors.New("a host needs the address of control")
	case o.Listener == nil:
		return errors.New("a host needs a listener")
	}
	// The replicas run in this directory's name, not in that of a working directory.
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	if o.TLSDir != "" {
		if o.TLSDir, err = filepath.Abs(o.TLSDir); err != nil {
			return err
		}
	}
	if o.Advertise == "" {
		host, _, err := net.SplitHostPort(o.Listener.Addr().String())
		if err != nil {
			return fmt.Errorf("find the address of this host: %w", err)
		}
		if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
			return withTry(fmt.Errorf("others cannot reach this host at %s", host), "--advertise ADDRESS, the one under which they can")
		}
		o.Advertise = host
	}
	if o.Exe == "" {
		if o.Exe, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.images == nil {
		o.images = provideImage
	}
	return nil
}

// address is where others reach this host's API.
func (o *Options) address() string {
	_, port, _ := net.SplitHostPort(o.Listener.Addr().String())
	return net.JoinHostPort(o.Advertise, port)
}

// controlURL is the base of a control's API.
func (o *Options) controlURL(address string) string {
	if strings.Contains(address, "://") {
		return strings.TrimSuffix(address, "/")
	}
	if o.Identity != nil {
		return "https://" + address
	}
	return "http://" + address
}
