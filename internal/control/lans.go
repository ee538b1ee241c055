package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"understudy/internal/lan"
	"understudy/internal/lan/lanapi"
	"understudy/internal/pki"
)

// LANDaemon is a LAN daemon of ours. Control starts one if it is not told of another; the daemon lives on when control
// ends, for the connections of clients go through it.
type LANDaemon struct {
	client *lanapi.Client
	pid    int // 0: somebody else's
}

// lanFile, in control's data directory, tells a later control of the daemon that this one started.
const lanFile = "lan.json"

type lanRecord struct {
	Admin string `json:"admin"` // host:port
	PID   int    `json:"pid"`
}

// DialLAN uses the daemon at a URL.
func DialLAN(url string, id *pki.Identity) (*LANDaemon, error) {
	o := lanapi.ClientOptions{Timeout: lanLimit}
	if id != nil {
		o.TLS = id.Client(lan.CertificateName)
	}
	client, err := lanapi.NewClient(url, o)
	if err != nil {
		return nil, err
	}
	return &LANDaemon{client: client}, nil
}

// StartLAN finds the daemon that an earlier control started, or starts one: exe is this program, host the address that
// it listens on. It keeps its state below dir.
func StartLAN(ctx context.Context, exe, dir, host, tlsDir string, id *pki.Identity, log *slog.Logger) (*LANDaemon, error) {
	if d := findLAN(ctx, dir, id); d != nil {
		log.Info("the LAN daemon is there already", "pid", d.pid)
		return d, nil
	}
	narration, err := os.OpenFile(filepath.Join(dir, "lan.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start the LAN daemon: %w", err)
	}
	defer narration.Close()
	args := []string{"lan", "--admin=" + host + ":0", "--data=" + filepath.Join(dir, "lan")}
	if tlsDir != "" {
		args = append(args, "--tls-dir="+tlsDir)
	}
	cmd := exec.Command(exe, args...) // not of ctx: it outlives control
	cmd.Stderr = narration
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is not for it
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the LAN daemon: %w", err)
	}
	type line struct {
		text []byte
		err  error
	}
	first := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(io.LimitReader(out, 64<<10)).ReadBytes('\n')
		first <- line{text, err}
	}()
	var ready struct {
		Admin string `json:"admin"`
	}
	select {
	case l := <-first:
		if err = l.err; err == nil {
			err = json.Unmarshal(l.text, &ready)
		}
	case <-time.After(lanLimit):
		err = errors.New("it does not say that it is ready")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil && ready.Admin == "" {
		err = errors.New("it does not say where it can be reached")
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("start the LAN daemon: %w; %s says more", err, narration.Name())
	}
	go func() { _ = cmd.Wait() }() // should it end while control runs, it does not stay a zombie
	record, err := json.Marshal(lanRecord{ready.Admin, cmd.Process.Pid})
	if err == nil {
		err = writeFile(filepath.Join(dir, lanFile), record)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("remember the LAN daemon: %w", err)
	}
	d, err := DialLAN(adminURL(ready.Admin, id), id)
	if d != nil {
		d.pid = cmd.Process.Pid
	}
	log.Info("started the LAN daemon", "admin", ready.Admin, "pid", cmd.Process.Pid)
	return d, err
}

func adminURL(address string, id *pki.Identity) string {
	if id != nil {
		return "https://" + address
	}
	return "http://" + address
}

// writeFile replaces a file as a whole.
func writeFile(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// findLAN returns the daemon that dir tells of, or nil if it does not answer.
func findLAN(ctx context.Context, dir string, id *pki.Identity) *LANDaemon {
	var r lanRecord
	text, err := os.ReadFile(filepath.Join(dir, lanFile))
	if err != nil || json.Unmarshal(text, &r) != nil || r.Admin == "" {
		return nil
	}
	d, err := DialLAN(adminURL(r.Admin, id), id)
	if err != nil {
		return nil
	}
	d.pid = r.PID
	if _, err := d.client.List(ctx); err != nil {
		return nil
	}
	return d
}

// StopLAN ends the daemon that a control with that data directory has started. Connections through it break. It tells
// whether there was one.
func StopLAN(ctx context.Context, dir string, id *pki.Identity) (bool, error) {
	d := findLAN(ctx, dir, id)
	if d == nil {
		return false, nil
	}
	return true, d.end(dir)
}

func (d *LANDaemon) end(dir string) error {
	if d.pid <= 1 || !isLAN(d.pid) {
		return fmt.Errorf("end the LAN daemon: process %d is not it", d.pid)
	}
	if err := syscall.Kill(d.pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the LAN daemon: %w", err)
	}
	return os.Remove(filepath.Join(dir, lanFile))
}

// isLAN keeps us from ending a process that was given the number of a daemon that is gone.
func isLAN(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := splitZero(line)
	return err == nil && len(words) > 1 && words[1] == "lan"
}

func splitZero(line []byte) (words []string) {
	start := 0
	for i, b := range line {
		if b == 0 {
			words = append(words, string(line[start:i]))
			start = i + 1
		}
	}
	return words
}

// EndIfIdle ends a daemon that was started for the control of that data directory if no machine has a LAN any more. It
// tells whether the daemon stays.
func (d *LANDaemon) EndIfIdle(ctx context.Context, dir string) (stays bool) {
	if d.pid == 0 {
		return false
	}
	list, err := d.client.List(ctx)
	if err != nil || len(list) > 0 {
		return err == nil
	}
	return d.end(dir) != nil
}

// Ensure implements LANs.
func (d *LANDaemon) Ensure(ctx context.Context, name string, forwards []string, outbound bool) (string, []string, error) {
	s, err := d.client.Put(ctx, name, lanapi.Spec{Forwards: forwards, Outbound: outbound})
	if err != nil {
		return "", nil, err
	}
	bound := []string{}
	for _, f := range s.Forwards {
		if f.Error != "" {
			return "", nil, fmt.Errorf("forward %s: %s", f.Spec, f.Error)
		}
		bound = append(bound, boundText(f))
	}
	if s.Error != "" {
		return "", nil, errors.New(s.Error)
	}
	return s.Listen, bound, nil
}

// boundText is a forward as users write it, with the port that it got.
func boundText(f lanapi.Forward) string {
	spec, err := lan.ParseForward(f.Spec)
	if err != nil {
		return f.Spec
	}
	text := fmt.Sprintf("%s:%d", f.At, spec.GuestPort)
	if spec.Network == "udp" {
		text += "/udp"
	}
	return text
}

// Remove implements LANs.
func (d *LANDaemon) Remove(ctx context.Context, name string) error {
	err := d.client.Delete(ctx, name)
	if errors.Is(err, lanapi.ErrNotFound) {
		return nil
	}
	return err
}

// lanError gives an error of the daemon the API's code.
func lanError(err error) error {
	switch {
	case errors.Is(err, lan.ErrPortInUse):
		return refuse(connect.CodeFailedPrecondition, "another port, or port 0 for any free one", "%s", err)
	case errors.Is(err, lanapi.ErrInvalid), errors.Is(err, lanapi.ErrConflict):
		return refuse(connect.CodeInvalidArgument, "-p 127.0.0.1:8080:80", "%s", err)
	case errors.Is(err, lanapi.ErrFull):
		return refuse(connect.CodeResourceExhausted, "", "%s", err)
	}
	return refuse(connect.CodeUnavailable, "start control again: it finds the LAN daemon or starts one", "make the machine's LAN: %s", err)
}
