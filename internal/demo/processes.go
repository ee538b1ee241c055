package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a child of the demo: this program again, with other arguments.
type Process struct {
	Name  string
	Ready Ready // what it printed when it was ready
	cmd   *exec.Cmd
	log   string
	done  chan struct{}
	err   error
}

// Ready is the line that a serving command prints when it is ready.
type Ready struct {
	Listen   string   `json:"listen"`
	Admin    string   `json:"admin"` // of a LAN daemon
	Status   string   `json:"status"`
	Forwards []string `json:"forwards"`
}

// Group starts processes and ends them all.
type Group struct {
	Exe string // the program; empty: this one
	Dir string // for logs
	mu  sync.Mutex
	all []*Process
}

// Start starts a child and waits until it is ready. The child dies with this process, however that ends.
func (g *Group) Start(ctx context.Context, name string, args ...string) (*Process, error) {
	exe := g.Exe
	if exe == "" {
		var err error
		if exe, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
	}
	p := &Process{Name: name, log: filepath.Join(g.Dir, name+".log"), done: make(chan struct{})}
	logFile, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(exe, args...)
	p.cmd.Stderr = logFile
	// A group of its own keeps the terminal's Ctrl-C for this process, which then ends its children.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		logFile.Close()
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		logFile.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	g.mu.Lock()
	g.all = append(g.all, p)
	g.mu.Unlock()

	ready := make(chan error, 1)
	go func() {
		r := bufio.NewReader(out)
		line, err := r.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &p.Ready)
		}
		ready <- err
		_, _ = io.Copy(io.Discard, r)
		p.err = p.cmd.Wait()
		logFile.Close()
		close(p.done)
	}()
	select {
	case err = <-ready:
		if err == nil {
			return p, nil
		}
		<-p.done
		return nil, fmt.Errorf("%s did not start: %s", name, p.LastWords())
	case <-time.After(60 * time.Second):
		return nil, fmt.Errorf("%s is not ready after a minute: %s", name, p.LastWords())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Kill ends the process with SIGKILL, as the death of its host would, and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is the exit code of a process that has ended, -1 if a signal ended it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Log is all that the process narrated.
func (p *Process) Log() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

// LastWords are the last lines of what the process narrated.
func (p *Process) LastWords() string {
	lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// Stop ends all processes, politely first, the youngest first.
func (g *Group) Stop() {
	g.mu.Lock()
	all := g.all
	g.all = nil
	g.mu.Unlock()
	for i := len(all) - 1; i >= 0; i-- {
		_ = all[i].Signal(syscall.SIGCONT)
		_ = all[i].Signal(syscall.SIGTERM)
	}
	patience := time.After(3 * time.Second)
	for _, p := range all {
		select {
		case <-p.done:
		case <-patience:
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
}
