// Package fleet starts a fleet in real processes on this machine: control, the LAN daemon and hosts, on loopback or
// each in a network namespace of its own. Tests and benchmarks kill, stop and cut off its parts.
//
// A host dies as a machine does: with every replica on it. Close ends all of it; should the process that started it be
// killed instead, the fleet dies with it.
package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	api "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
	"understudy/internal/control"
	"understudy/internal/demo"
	"understudy/internal/pki"
)

// Options describe a Fleet.
type Options struct {
	Exe          string   // the understudy program
	Hosts        []string // started at once
	SuspectAfter time.Duration
	DeadAfter    time.Duration // of the view service; 0: its default
	OwnLAN       bool          // control starts its LAN daemon, as it does for users; it is ended by Close
	TLS          bool          // certificates on loopback; beyond it there always are
	Apart        bool          // each part in a network namespace of its own, with the names control, lan, client and those of the hosts
	Later        []string      // hosts that StartHost will start
}

// Fleet is a fleet of processes. Its methods are for one goroutine, but for those that ask.
type Fleet struct {
	demo.Group
	Control *demo.Process
	LAN     *demo.Process // nil with OwnLAN
	API     understudyv1connect.MachineServiceClient
	Address string // of control
	Net     *Net   // nil on loopback
	TLSDir  string // empty without certificates

	opt    Options
	http   *http.Client
	lanURL string
	hosts  map[string]*Host
}

// Start starts control, LAN and hosts.
func Start(ctx context.Context, o Options) (f *Fleet, err error) {
	dir, err := os.MkdirTemp("", "us-") // short: sockets are in it
	if err != nil {
		return nil, err
	}
	f = &Fleet{Group: demo.Group{Exe: o.Exe, Dir: dir}, opt: o, hosts: map[string]*Host{}}
	started := f
	defer func() {
		if err != nil {
			started.Close()
		}
	}()
	f.Address = fmt.Sprintf("127.0.0.1:%d", quietPort())
	if o.Apart {
		if f.Net, err = NewNet(append([]string{"control", "lan", "client"}, slices.Concat(o.Hosts, o.Later)...)...); err != nil {
			return nil, err
		}
		f.Address = f.Net.IP("control") + ":7600"
	}
	if o.TLS || o.Apart {
		f.TLSDir = filepath.Join(dir, "certs")
		if err = makeCertificates(f.TLSDir, append([]string{"control", "lan", "cli"}, slices.Concat(o.Hosts, o.Later)...)); err != nil {
			return nil, err
		}
	}
	if err = f.connect(); err != nil {
		return nil, err
	}
	if !o.OwnLAN {
		if err = f.startLAN(ctx); err != nil {
			return nil, err
		}
	}
	if err = f.StartControl(ctx); err != nil {
		return nil, err
	}
	for _, name := range o.Hosts {
		if _, err = f.StartHost(ctx, name); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func makeCertificates(dir string, names []string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := pki.NewCA(dir, time.Now()); err != nil {
		return err
	}
	for _, n := range names {
		if err := pki.NewHost(dir, n, nil, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// quietPort is a free port that the kernel gives to nobody by itself: control comes back to its port after a while.
func quietPort() int {
	for {
		port := 10000 + rand.IntN(20000)
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			ln.Close()
			return port
		}
	}
}

// connect makes the client of the API, which is a user somewhere on the network.
func (f *Fleet) connect() error {
	t := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return f.Dial(ctx, address)
	}}
	scheme := "http"
	if f.TLSDir != "" {
		id, err := pki.Load(f.TLSDir, control.UserName)
		if err != nil {
			return err
		}
		t.TLSClientConfig, scheme = id.Client(control.Name), "https"
	}
	f.http = &http.Client{Transport: t}
	f.API = understudyv1connect.NewMachineServiceClient(f.http, scheme+"://"+f.Address)
	return nil
}

// Dial connects from where clients are.
func (f *Fleet) Dial(ctx context.Context, address string) (conn net.Conn, err error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	err = f.From("client", func() error {
		conn, err = d.DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

// From does something as a part of the fleet: in its namespace, if it has one.
func (f *Fleet) From(part string, do func() error) error {
	if f.Net == nil {
		return do()
	}
	return f.Net.From(part, do)
}

func (f *Fleet) startAs(ctx context.Context, name string, args ...string) (p *demo.Process, err error) {
	if f.TLSDir != "" {
		args = append(args, "--tls-dir", f.TLSDir)
	} else if args[0] != "lan" {
		args = append(args, "--insecure")
	}
	err = f.From(name, func() error {
		p, err = f.Group.Start(ctx, name, args...)
		return err
	})
	return p, err
}

func (f *Fleet) startLAN(ctx context.Context) (err error) {
	at := "127.0.0.1"
	if f.Net != nil {
		at = f.Net.IP("lan")
	}
	if f.LAN, err = f.startAs(ctx, "lan", "lan", "--admin", at+":0", "--data", filepath.Join(f.Dir, "lan")); err != nil {
		return err
	}
	f.lanURL = "http://" + f.LAN.Ready.Admin
	if f.TLSDir != "" {
		f.lanURL = "https://" + f.LAN.Ready.Admin
	}
	return nil
}

// StartControl starts control, again if it was killed: what it must remember is in the fleet's directory.
func (f *Fleet) StartControl(ctx context.Context) (err error) {
	args := []string{"control", "--listen", f.Address, "--data", filepath.Join(f.Dir, "control")}
	if f.opt.DeadAfter > 0 {
		args = append(args, "--dead-after", f.opt.DeadAfter.String())
	}
	if f.lanURL != "" {
		args = append(args, "--lan", f.lanURL)
	}
	f.Control, err = f.startAs(ctx, "control", args...)
	return err
}

// LANLog is what the LAN daemon narrated.
func (f *Fleet) LANLog() string {
	if f.LAN != nil {
		return f.LAN.Log()
	}
	b, _ := os.ReadFile(filepath.Join(f.Dir, "control", "lan.log"))
	return string(b)
}

// Run runs a command of the program as a user does, and gives what it printed. An error has what it complained of.
func (f *Fleet) Run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, f.Exe, args...)
	cmd.Env = append(os.Environ(), "UNDERSTUDY_CONTROL="+f.Address, "UNDERSTUDY_TLS_DIR="+f.TLSDir)
	if f.TLSDir == "" {
		cmd.Env = append(cmd.Env, "UNDERSTUDY_INSECURE=1")
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := f.From("client", cmd.Start); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("understudy %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// Machine asks control how a machine is.
func (f *Fleet) Machine(ctx context.Context, name string) (*api.Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := f.API.GetMachine(ctx, &api.GetMachineRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return r.Machine, nil
}

// Events are all that control remembers, after the one of that number.
func (f *Fleet) Events(ctx context.Context, since int64) (all []*api.Event, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, err := f.API.WatchEvents(ctx, &api.WatchEventsRequest{SinceSeq: since})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for s.Receive() {
		all = append(all, s.Msg())
	}
	return all, s.Err()
}

// Get gives the answer to a GET of control, such as /metrics.
func (f *Fleet) Get(ctx context.Context, path string) (*http.Response, error) {
	scheme := "http://"
	if f.TLSDir != "" {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+f.Address+path, nil)
	if err != nil {
		return nil, err
	}
	return f.http.Do(req)
}

// ServiceAddress is where clients reach the first forwarded port of a machine.
func ServiceAddress(m *api.Machine) (string, error) {
	if len(m.Forwards) == 0 {
		return "", errors.New("the machine has no forward")
	}
	at := m.Forwards[0]
	return at[:strings.LastIndexByte(at, ':')], nil
}

// Await waits until Redis in the machine answers, and gives a load on one connection to it.
func (f *Fleet) Await(ctx context.Context, m *api.Machine) (l *demo.Load, err error) {
	at, err := ServiceAddress(m)
	if err != nil {
		return nil, err
	}
	err = f.From("client", func() error {
		l, err = demo.Await(ctx, at, "fleet")
		return err
	})
	return l, err
}

// Close ends every process and removes every file.
func (f *Fleet) Close() {
	for _, h := range f.hosts {
		h.Thaw()
	}
	f.Stop()
	if f.opt.OwnLAN {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, _ = f.Run(ctx, "control", "--stop-lan", "--data", filepath.Join(f.Dir, "control"))
	}
	if f.Net != nil {
		f.Net.Close()
	}
	os.RemoveAll(f.Dir)
}
