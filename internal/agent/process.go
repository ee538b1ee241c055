package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// termPatience is how long a replica may take to end in good order before it is killed.
	termPatience = 5 * time.Second
	// logMaxBytes bounds what a replica's log takes on disk, twice: the log and the one before it.
	logMaxBytes = 8 << 20
	// readyLineMaxBytes bounds the line that a replica prints when it is ready.
	readyLineMaxBytes = 64 << 10
)

// starter starts processes from one thread that lives as long as the starter. The kernel ties the parent's death
// signal to the thread that forked: a child that was started by a passing thread of the Go runtime would be killed
// when that thread ends.
type starter struct {
	calls chan func()
	once  sync.Once
}

func newStarter() *starter {
	s := &starter{calls: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for f := range s.calls {
			f()
		}
	}()
	return s
}

func (s *starter) start(cmd *exec.Cmd) error {
	result := make(chan error)
	s.calls <- func() { result <- cmd.Start() }
	return <-result
}

// close ends the thread. All processes must have ended before.
func (s *starter) close() { s.once.Do(func() { close(s.calls) }) }

// readyLine is what a replica prints when it is ready.
type readyLine struct {
	Listen string `json:"listen"`
	Status string `json:"status"`
}

// process is one life of a replica.
type process struct {
	cmd     *exec.Cmd
	logPath string
	logFrom int64 // where this life's words begin in the log
	started time.Time

	ready     chan struct{} // closed when it has said that it is ready
	readyLine readyLine     // valid once ready is closed
	done      chan struct{} // closed when it has ended
	state     *os.ProcessState
}

// startProcess starts a replica. Its narration is appended to the file logPath.
func startProcess(s *starter, exe string, args []string, logPath string) (*process, error) {
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the replica's log: %w", err)
	}
	defer logFile.Close()
	p := &process{
		cmd: exec.Command(exe, args...), logPath: logPath, started: time.Now(),
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	if st, err := logFile.Stat(); err == nil {
		p.logFrom = st.Size()
	}
	p.cmd.Stderr = logFile
	// A process group of its own keeps the terminal's Ctrl-C for the agent, which then ends its replicas.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.start(p.cmd); err != nil {
		return nil, fmt.Errorf("start the replica's process: %w", err)
	}
	go p.wait(out)
	return p, nil
}

func (p *process) wait(out io.Reader) {
	r := bufio.NewReader(io.LimitReader(out, readyLineMaxBytes))
	line, err := r.ReadBytes('\n')
	if err == nil && json.Unmarshal(line, &p.readyLine) == nil {
		close(p.ready)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = p.cmd.Wait()
	p.state = p.cmd.ProcessState
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process, in good order if it can, and waits until it is gone.
func (p *process) stop(patience time.Duration) {
	// A process that was stopped hears SIGTERM only when it goes on.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-p.done:
		return
	case <-t.C:
	}
	_ = p.cmd.Process.Kill() // the only error is that it has ended already
	<-p.done
}

// Exit codes of a replica: the contract of `understudy replica`.
const (
	exitDown    = 0 // the guest shut down
	exitFailed  = 1 // the guest reported a failure
	exitReboot  = 3 // the guest asked for a reboot
	exitHalted  = 4 // it lost its part; its state is worthless
	exitSignals = -1
)

// exitCode is the code of a process that has ended, exitSignals if a signal ended it.
func (p *process) exitCode() int { return p.state.ExitCode() }

// why says how the process ended, with its last words.
func (p *process) why() string {
	ws, _ := p.state.Sys().(syscall.WaitStatus)
	words := p.lastWords()
	switch {
	case ws.Signaled():
		return fmt.Sprintf("killed by signal %d (%s)", int(ws.Signal()), ws.Signal())
	case p.exitCode() == exitDown:
		return "the guest shut down"
	case p.exitCode() == exitFailed:
		return "the guest reported a failure"
	case p.exitCode() == exitReboot:
		return "the guest asked for a reboot"
	case p.exitCode() == exitHalted:
		return "halted: " + orElse(strings.TrimPrefix(words, "halted: "), "it lost its part")
	}
	return orElse(words, fmt.Sprintf("ended with code %d", p.exitCode()))
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// lastWords is the last line of this life that begins with "Error: ", without that and with the hint behind it.
func (p *process) lastWords() string {
	f, err := os.Open(p.logPath)
	if err != nil {
		return ""
	}
	defer f.Close()
	from := p.logFrom
	if st, err := f.Stat(); err == nil {
		from = max(from, st.Size()-8<<10)
	}
	tail := make([]byte, 8<<10)
	n, _ := f.ReadAt(tail, from)
	lines := strings.Split(string(bytes.TrimSpace(tail[:n])), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if words, ok := strings.CutPrefix(lines[i], "Error: "); ok {
			if i+1 < len(lines) && strings.HasPrefix(lines[i+1], "Try: ") {
				words += " (try: " + strings.TrimPrefix(lines[i+1], "Try: ") + ")"
			}
			return words
		}
	}
	return ""
}

// boundLog keeps a log within its size: the old part goes to logPath.1, whose content is lost. It works while the
// process writes, because the file is opened for appending; a few lines may be lost in between.
func boundLog(path string) {
	st, err := os.Stat(path)
	if err != nil || st.Size() < logMaxBytes {
		return
	}
	if old, err := os.ReadFile(path); err == nil {
		_ = os.WriteFile(path+".1", old, 0o600)
	}
	_ = os.Truncate(path, 0)
}
