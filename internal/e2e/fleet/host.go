package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"understudy/internal/demo"
	"understudy/internal/host"
)

// Host is one host of a fleet and the replicas on it.
type Host struct {
	*demo.Process
	dir    string
	frozen []int // pids that Freeze stopped
}

// StartHost starts a host, again if it was killed.
func (f *Fleet) StartHost(ctx context.Context, name string) (*Host, error) {
	h := &Host{dir: filepath.Join(f.Dir, name)}
	args := []string{"host", "--name", name, "--control", f.Address, "--dir", h.dir, "--suspect-after", f.opt.SuspectAfter.String()}
	if f.Net != nil {
		args = append(args, "--listen", f.Net.IP(name)+":0")
	}
	var err error
	if h.Process, err = f.startAs(ctx, name, args...); err != nil {
		return nil, err
	}
	f.hosts[name] = h
	return h, nil
}

// Host is a host that was started, by its name.
func (f *Fleet) Host(name string) *Host { return f.hosts[name] }

// Replicas are the pids of the replicas on the host.
func (h *Host) Replicas() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if parent, state := parentOf(pid); parent == h.PID() && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf gives a process's parent and state, 0 if it is gone.
func parentOf(pid int) (parent int, state string) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, ""
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name before it may hold anything, but ours does not
	words := strings.Fields(rest)
	if len(words) < 2 {
		return 0, ""
	}
	parent, _ = strconv.Atoi(words[1])
	return parent, words[0]
}

// Die kills the host with everything on it, as a power failure does, and waits until it is gone.
func (h *Host) Die() error {
	replicas := h.Replicas()
	if err := h.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	for _, pid := range replicas {
		_ = syscall.Kill(pid, syscall.SIGKILL) // the kernel does it too, when its parent is gone
	}
	if err := h.Kill(); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		gone := true
		for _, pid := range replicas {
			if _, state := parentOf(pid); state != "" && state != "Z" {
				gone = false
			}
		}
		if gone {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("replicas of a dead host go on")
		}
	}
}

// Freeze stops the host with everything on it, as a hypervisor does that pauses it.
func (h *Host) Freeze() {
	// The replicas first: an agent that runs might miss one and start another.
	h.frozen = append(h.Replicas(), h.PID())
	for _, pid := range h.frozen {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
}

// Thaw lets it go on.
func (h *Host) Thaw() {
	for _, pid := range h.frozen {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	h.frozen = nil
}

// ReplicaLogs is all that the replicas on the host narrated.
func (h *Host) ReplicaLogs() string {
	var b strings.Builder
	logs, _ := filepath.Glob(filepath.Join(h.dir, "machines", "*", "replica.log"))
	for _, path := range logs {
		text, _ := os.ReadFile(path)
		b.Write(text)
	}
	return b.String()
}

// Machines are the ids of the machines of which the host keeps files.
func (h *Host) Machines() (ids []string) {
	entries, _ := os.ReadDir(filepath.Join(h.dir, "machines"))
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

// Status asks the host's only replica how it is, without the host's help.
func (h *Host) Status(ctx context.Context) (s host.Status, err error) {
	sockets, _ := filepath.Glob(filepath.Join(h.dir, "machines", "*", "status"))
	if len(sockets) != 1 {
		return s, fmt.Errorf("host %s has %d replicas", h.Name, len(sockets))
	}
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", sockets[0])
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://replica/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}
