package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"understudy/internal/host"
	"understudy/internal/image"
)

// Pair is a protected machine with everything around it, each in a process of its own: virtual LAN,
// arbiter, host a (primary) and host b (backup).
type Pair struct {
	Group
	LAN, Arbiter, A, B *Process
	Addr               string // forwarded to the guest's service
}

// PairOptions describe a Pair.
type PairOptions struct {
	Image        *image.Image
	Exe          string // the understudy program; empty: this one
	Forward      string // host side of the forwarded port, host:port; empty: any free port on loopback
	GuestPort    int    // 0: 6379
	SuspectAfter time.Duration
	Append       string   // more words for the kernel's command line
	Alone        bool     // host a only, unprotected
	NoDisk       bool     // without the image's disk
	Replica      []string // more arguments for both replicas
}

// StartPair starts the processes; the guest boots.
func StartPair(ctx context.Context, o PairOptions) (p *Pair, err error) {
	dir, err := os.MkdirTemp("", "understudy-")
	if err != nil {
		return nil, err
	}
	p = &Pair{Group: Group{Exe: o.Exe, Dir: dir}}
	started := p // a return of nil with an error sets p
	defer func() {
		if err != nil {
			started.Close()
		}
	}()
	if o.Forward == "" {
		o.Forward = "127.0.0.1:0"
	}
	if o.GuestPort == 0 {
		o.GuestPort = 6379
	}
	lan := filepath.Join(dir, "lan.sock")
	if p.LAN, err = p.Start(ctx, "lan", "lan", "--listen", lan, "--forward", fmt.Sprintf("%s:%d", o.Forward, o.GuestPort)); err != nil {
		return nil, err
	}
	p.Addr = p.LAN.Ready.Forwards[0]
	common := []string{"replica", "--lan", lan, "--status", "127.0.0.1:0", "--append", o.Append}
	common = append(common, o.Replica...)
	if !o.Alone {
		if err = p.StartArbiter(ctx); err != nil {
			return nil, err
		}
		common = append(common, "--group", "demo", "--arbiter", "unix:"+p.arbiterSocket(), "--suspect-after", o.SuspectAfter.String())
	}
	side := func(name string, more ...string) (*Process, error) {
		args := append(append([]string{}, common...), "--name", name, "--console", p.Console(name))
		args = append(args, more...)
		if !o.NoDisk {
			for i := range o.Image.Disks {
				path := filepath.Join(dir, fmt.Sprintf("%s-disk%d.raw", name, i))
				if err := o.Image.CreateDisk(i, path); err != nil {
					return nil, err
				}
				args = append(args, "--disk", path)
			}
		}
		return p.Start(ctx, name, append(args, o.Image.Dir)...)
	}
	if o.Alone {
		p.A, err = side("a")
		return p, err
	}
	if p.B, err = side("b", "--peer", "a", "--listen", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	p.A, err = side("a", "--peer", "b", "--peer-addr", p.B.Ready.Listen)
	return p, err
}

func (p *Pair) arbiterSocket() string { return filepath.Join(p.Dir, "arbiter.sock") }

// StartArbiter starts the arbiter, again if it was killed: its store is in the pair's folder.
func (p *Pair) StartArbiter(ctx context.Context) (err error) {
	_ = os.Remove(p.arbiterSocket())
	p.Arbiter, err = p.Start(ctx, "arbiter", "arbiter", "--listen", p.arbiterSocket(), "--data", filepath.Join(p.Dir, "arbiter.db"))
	return err
}

// Console is the file that holds what the guest of a replica said on its console, as far as it was
// released there.
func (p *Pair) Console(name string) string { return filepath.Join(p.Dir, name+".console") }

// Close ends every process and removes every file.
func (p *Pair) Close() {
	p.Stop()
	os.RemoveAll(p.Dir)
}

var statusClient = &http.Client{Timeout: 2 * time.Second}

// StatusOf asks a replica how it is.
func StatusOf(r *Process) (host.Status, error) {
	var s host.Status
	resp, err := statusClient.Get("http://" + r.Ready.Status + "/status")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&s)
	return s, err
}
