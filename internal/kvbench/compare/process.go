// Package compare runs the key-value service beside the servers that it is compared with, as processes on this machine, and has
// them loaded, killed and joined in the same way. Its figures are made into tables by internal/bench.
//
// Everything that a [Service] starts ends with its Close, and also when this process dies.
package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a program that was started for a comparison.
type Process struct {
	Name string
	cmd  *exec.Cmd
	out  string // file with what it printed
	log  string // file with what it narrated
	done chan struct{}
}

// startPatience is how long a process may take until it is ready.
const startPatience = 60 * time.Second

// start starts a program that writes what it prints and narrates to files in dir.
func start(dir, name, exe string, args ...string) (*Process, error) {
	p := &Process{Name: name, out: filepath.Join(dir, name+".out"), log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	p.cmd = exec.Command(exe, args...)
	p.cmd.Env = append(os.Environ(), "UNDERSTUDY_INSECURE=1")
	// A group of its own keeps the terminal's Ctrl-C for this process, which then ends its children.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := os.Create(p.out)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	return p, nil
}

// await tries until try gives no error. It gives up when the process has ended, or after startPatience.
func (p *Process) await(ctx context.Context, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before %s: %s", p.Name, what, p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s of %s: %w (%v)", what, p.Name, context.Cause(ctx), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var errNotYet = errors.New("not yet")

// ready waits for the JSON line that tells where the process serves.
func (p *Process) ready(ctx context.Context) (addrs map[string]string, err error) {
	err = p.await(ctx, "the line that says ready", func(context.Context) error {
		b, err := os.ReadFile(p.out)
		if err != nil {
			return err
		}
		line, _, ok := strings.Cut(string(b), "\n")
		if !ok {
			return errNotYet
		}
		return json.Unmarshal([]byte(line), &addrs)
	})
	return addrs, err
}

// lastWords are the last lines of what the process printed and narrated.
func (p *Process) lastWords() string {
	var all []string
	for _, file := range []string{p.out, p.log} {
		b, _ := os.ReadFile(file)
		if lines := strings.Split(strings.TrimSpace(string(b)), "\n"); lines[0] != "" {
			all = append(all, lines[max(0, len(lines)-3):]...)
		}
	}
	return strings.Join(all, "; ")
}

// Kill ends the process with SIGKILL, as the death of its machine would, and returns when it is gone.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// Freeze stops the process with SIGSTOP and returns when it has stopped.
func (p *Process) Freeze() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for end := time.Now().Add(startPatience); time.Now().Before(end); {
		f, err := p.stat()
		if err != nil {
			return err
		}
		if f[0] == "T" {
			return nil
		}
	}
	return fmt.Errorf("freeze %s: it runs on", p.Name)
}

// CPU is the processor time that the process has used so far, in ticks of 10 ms.
func (p *Process) CPU() time.Duration {
	f, err := p.stat()
	if err != nil {
		return 0
	}
	var ticks int64
	for _, s := range f[11:13] { // utime and stime
		n, _ := strconv.ParseInt(s, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// stat is the process's fields in /proc from the third on, its state (proc(5)).
func (p *Process) stat() ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return nil, err
	}
	_, after, ok := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	f := strings.Fields(after)
	if !ok || len(f) < 13 {
		return nil, fmt.Errorf("read the state of %s: %q", p.Name, b)
	}
	return f, nil
}

// freePort is a port of loopback that nothing serves now.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}
