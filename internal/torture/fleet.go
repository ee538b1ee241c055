package torture

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"understudy/api/understudy/v1/understudyv1connect"
	"understudy/internal/control"
	"understudy/internal/demo"
	"understudy/internal/pki"
)

// hostNames are the hosts of the fleet.
var hostNames = []string{"a", "b", "c"}

// fleet is control and three hosts, each a process of its own, in a directory.
type fleet struct {
	exe, dir     string
	address      string // of control
	suspectAfter time.Duration
	group        demo.Group
	api          understudyv1connect.MachineServiceClient
	links        *links // nil: everybody is on loopback

	mu      sync.Mutex
	control *demo.Process
	hosts   map[string]*demo.Process
	all     []*demo.Process
	ended   bool // nothing is started any more
}

// newFleet makes a fleet of which nothing runs yet. links may be nil.
func newFleet(exe, dir string, suspectAfter time.Duration, l *links) (*fleet, error) {
	f := &fleet{
		exe: exe, dir: dir, suspectAfter: suspectAfter, links: l, group: demo.Group{Exe: exe, Dir: dir}, hosts: map[string]*demo.Process{},
	}
	at, scheme := "127.0.0.1", "http://"
	t := &http.Transport{DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}
	if l != nil {
		id, err := pki.Load(l.tlsDir, control.UserName)
		if err != nil {
			return nil, err
		}
		at, scheme, t.TLSClientConfig = l.hub(), "https://", id.Client(control.Name)
	}
	var err error
	if f.address, err = freePort(at); err != nil {
		return nil, err
	}
	f.api = understudyv1connect.NewMachineServiceClient(&http.Client{Transport: t}, scheme+f.address)
	return f, nil
}

// security are the arguments by which a process knows the others.
func (f *fleet) security() string {
	if f.links != nil {
		return "--tls-dir=" + f.links.tlsDir
	}
	return "--insecure"
}

// startControl starts control, and with it the LAN daemon if none of this fleet runs.
func (f *fleet) startControl(ctx context.Context) error {
	args := []string{
		"control", f.security(), "--data=" + f.controlDir(), "--listen=" + f.address,
		// On a host without a free processor a replica may be silent for long and yet live.
		"--dead-after=" + (2 * f.suspectAfter).String(),
	}
	return f.start(ctx, &f.group, "control", args, func(p *demo.Process) { f.control = p })
}

func (f *fleet) startHost(ctx context.Context, name string) error {
	args := []string{
		"host", f.security(), "--name=" + name, "--control=" + f.address, "--dir=" + f.hostDir(name),
		"--suspect-after=" + f.suspectAfter.String(),
	}
	g := &f.group
	if f.links != nil {
		g = &demo.Group{Exe: "ip", Dir: f.dir}
		args = f.links.inside(name, append(append([]string{f.exe}, args...), "--listen="+f.links.address(name)+":0")...)
	}
	return f.start(ctx, g, name, args, func(p *demo.Process) { f.hosts[name] = p })
}

func (f *fleet) start(ctx context.Context, g *demo.Group, name string, args []string, keep func(*demo.Process)) error {
	f.mu.Lock()
	ended := f.ended
	f.mu.Unlock()
	if ended {
		return context.Canceled
	}
	p, err := g.Start(ctx, name, args...)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, p)
	keep(p)
	return nil
}

func (f *fleet) controlDir() string         { return filepath.Join(f.dir, "control") }
func (f *fleet) hostDir(name string) string { return filepath.Join(f.dir, name) }
func (f *fleet) host(name string) *demo.Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hosts[name]
}

func (f *fleet) controlProcess() *demo.Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.control
}

// killHost ends a host as a power failure does.
func (f *fleet) killHost(name string) error {
	p := f.host(name)
	replicas := childrenOf(p.PID())
	err := p.Kill()
	for _, r := range replicas {
		_ = syscall.Kill(r, syscall.SIGKILL)
	}
	return err
}

// signalHost sends a signal to a host and its replicas.
func (f *fleet) signalHost(name string, s syscall.Signal) error {
	p := f.host(name)
	// First the host: one that stands still starts no replica that would be overlooked.
	if err := p.Signal(s); err != nil {
		return err
	}
	for _, r := range childrenOf(p.PID()) {
		_ = syscall.Kill(r, s)
	}
	return nil
}

// killReplica ends the replica of a host.
func (f *fleet) killReplica(name string) error {
	replicas := childrenOf(f.host(name).PID())
	if len(replicas) == 0 {
		return fmt.Errorf("host %s has no replica", name)
	}
	for _, r := range replicas {
		if err := syscall.Kill(r, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return nil
}

// close ends all processes of the fleet, also those that its processes started.
func (f *fleet) close() {
	f.mu.Lock()
	f.ended = true
	all := f.all
	f.mu.Unlock()
	for _, p := range all {
		_ = p.Kill()
	}
	// The LAN daemon is no child of ours, and outlives control. Something that was just being started may come late.
	for range 100 {
		left := f.processes()
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// processes are all that run this program with a word in the fleet's directory, and live.
func (f *fleet) processes() (pids []int) {
	exe, err := filepath.EvalSymlinks(f.exe)
	if err != nil {
		exe = f.exe
	}
	for _, pid := range allProcesses() {
		at, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || strings.TrimSuffix(at, " (deleted)") != exe || pid == os.Getpid() {
			continue
		}
		words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.Contains(words, []byte("="+f.dir+"/")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func allProcesses() (pids []int) {
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		if pid, err := strconv.Atoi(d.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// childrenOf lists the children of a process.
func childrenOf(parent int) []int {
	return slices.DeleteFunc(allProcesses(), func(pid int) bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return true
		}
		// "pid (name) state ppid ...", and a name may hold anything.
		_, rest, _ := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(" "))
		words := bytes.Fields(rest)
		return len(words) < 2 || string(words[1]) != strconv.Itoa(parent)
	})
}
