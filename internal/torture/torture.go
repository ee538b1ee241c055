package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	api "understudy/api/understudy/v1"
)

// Options of a run.
type Options struct {
	Exe          string // the understudy program
	Dir          string // for all files of the run; the caller removes it. Short: unix sockets are below it
	Seed         uint64
	Mode         api.Mode
	For          time.Duration // how long harm is done; 0: until Failovers
	Failovers    int           // end when the primary's part has moved so often; 0: never
	SuspectAfter time.Duration
	Bound        time.Duration // within which protection must come back after a harm, and service too
	Boot         time.Duration // how long the guest may take until it is up and protected
	Image        string
	Links        bool      // hosts in network namespaces, whose links are cut too; needs root
	Progress     io.Writer // narration
	OnRow        func(Row) // called after each failure; nil: nobody wants to know
}

// command is the command line of the same harm.
func (o *Options) command() string {
	c := fmt.Sprintf("understudy torture --mode %s --seed %d", modeName(o.Mode), o.Seed)
	if o.Links {
		c += " --netns"
	}
	if o.Failovers > 0 {
		c += fmt.Sprintf(" --failovers %d", o.Failovers)
	}
	return c
}

// run is one run.
type run struct {
	Options
	f     *fleet
	w     *watcher
	l     *load
	began time.Time
	rep   *Report
	noted time.Time // when slowness was noted

	console console
}

// Run starts a fleet, harms it, and ends it. The report is as complete as the run came; it says what was not kept. An
// error means that there is no verdict: the fleet did not come up, or the context ended.
func Run(ctx context.Context, o Options) (*Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	rep := &Report{Mode: modeName(o.Mode), Seed: o.Seed, Command: o.command(), Rows: []Row{}}
	defer cancel()
	var l *links
	if o.Links {
		var err error
		if l, err = newLinks(o.Dir); err != nil {
			return rep, err
		}
		defer l.close()
	}
	f, err := newFleet(o.Exe, o.Dir, o.SuspectAfter, l)
	if err != nil {
		return rep, err
	}
	r := &run{Options: o, f: f, w: newWatcher(), rep: rep}
	var beside sync.WaitGroup
	defer func() {
		cancel()
		f.close()
		beside.Wait()
	}()
	if err := r.start(ctx, &beside); err != nil {
		return rep, err
	}
	err = r.harm(ctx)
	rep.Seconds, rep.Failovers, rep.Acks = int(time.Since(r.began).Seconds()), r.w.moves(), r.l.acks()
	rep.Connections = len(r.l.clients)
	rep.sum()
	var v *Violation
	switch {
	case errors.As(err, &v):
		rep.Verdict = err.Error()
		r.evidence(ctx)
		return rep, nil
	case err == nil:
		rep.Verdict = ok
	}
	return rep, err
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.Progress, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

func modeName(m api.Mode) string {
	if m == api.Mode_MODE_CHECKPOINT {
		return "checkpoint"
	}
	return "lockstep"
}

// start starts the fleet, the guest and the clients.
func (r *run) start(ctx context.Context, beside *sync.WaitGroup) error {
	r.say("starts control and three hosts in %s", r.Dir)
	if err := r.f.startControl(ctx); err != nil {
		return err
	}
	for _, name := range hostNames {
		if err := r.f.startHost(ctx, name); err != nil {
			return err
		}
	}
	running := ctx // the clients and the watcher live longer than what follows
	ctx, cancel := context.WithTimeoutCause(ctx, r.Boot, fmt.Errorf("the guest is not up and protected after %v", r.Boot))
	defer cancel()
	beside.Go(func() { r.w.watch(running, r.f) })
	if err := r.until(ctx, "the hosts", func() bool { return r.readyHosts(ctx) == len(hostNames) }); err != nil {
		return err
	}
	r.say("boots the guest")
	// The stream tells of the progress; what counts is how the machine is.
	stream, err := r.f.api.Run(ctx, &api.RunRequest{Spec: &api.MachineSpec{
		Name: machineName, Image: r.Image, Mode: r.Mode, Forwards: []string{"127.0.0.1:0:6379"}, Spares: 1,
	}})
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() && !stream.Msg().Up {
	}
	address := ""
	err = r.until(ctx, "the guest", func() bool {
		m := r.machine(ctx)
		if !m.GetInSync() || m.State != "running" || len(m.Forwards) == 0 {
			return false
		}
		address, _, _ = cutLast(m.Forwards[0], ":")
		_, protected := r.f.states(ctx).place()
		return protected
	})
	if err != nil {
		return fmt.Errorf("%w (Run said: %v)", err, stream.Err())
	}
	r.l, err = startLoad(running, beside, address, r.Seed, r.Bound+30*time.Second)
	return err
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// until waits for a condition.
func (r *run) until(ctx context.Context, what string, cond func() bool) error {
	for !cond() {
		pause(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}

func (r *run) readyHosts(ctx context.Context) (n int) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	l, err := r.f.api.ListHosts(ctx, &api.ListHostsRequest{})
	if err != nil {
		return 0
	}
	for _, h := range l.Hosts {
		if h.State == "ready" {
			n++
		}
	}
	return n
}

// machine is the guest as control sees it, nil if control does not answer.
func (r *run) machine(ctx context.Context) *api.Machine {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	m, err := r.f.api.GetMachine(ctx, &api.GetMachineRequest{Name: machineName})
	if err != nil {
		return nil
	}
	return m.Machine
}

// broken is a promise that was not kept meanwhile, nil if there is none.
func (r *run) broken() error {
	if err := r.w.failed(); err != nil {
		return err
	}
	return r.l.failed()
}

// harm does harm until the time is over.
func (r *run) harm(ctx context.Context) error {
	r.began = time.Now()
	s := NewSchedule(r.Seed, r.Links, r.Failovers > 0)
	r.say("the guest is protected; harm begins, seed %d", r.Seed)
	for n := 1; ; n++ {
		if r.For > 0 && time.Since(r.began) > r.For || r.Failovers > 0 && r.w.moves() >= r.Failovers {
			return r.verify(ctx)
		}
		h := s.Next()
		row, err := r.failure(ctx, n, h)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		row.Verdict = ok
		if err != nil {
			row.Verdict = err.Error()
		}
		r.rep.Rows = append(r.rep.Rows, row)
		if r.OnRow != nil {
			r.OnRow(row)
		}
		if err != nil {
			return fmt.Errorf("failure %d (%s): %w", n, h, err)
		}
	}
}

// steady is how long the group must have been whole before it is harmed: a view that is just being made might take the
// backup away which the harm relies on.
const steady = 700 * time.Millisecond

// whole waits until the guest is protected, a spare stands by, control agrees, and nothing moves.
func (r *run) whole(ctx context.Context) (at place, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Bound, violation(Unshielded, "the group is not whole within %v", r.Bound))
	defer cancel()
	var since time.Time
	err = r.until(ctx, "the group to be whole", func() bool {
		if r.broken() != nil {
			return true
		}
		s := r.f.states(ctx)
		p, protected := s.place()
		m := r.machine(ctx)
		if !protected || s[p.host(Spare)].Role != "spare" || !m.GetInSync() || m.View != p.View || r.readyHosts(ctx) < len(hostNames) {
			since = time.Time{}
			return false
		}
		if at != p || since.IsZero() {
			at, since = p, time.Now()
		}
		return time.Since(since) > steady
	})
	return at, orElse(r.broken(), err)
}

// failure does one harm and waits until it is over.
func (r *run) failure(ctx context.Context, n int, h Harm) (row Row, err error) {
	row = Row{N: n, Harm: h.String()}
	if _, err = r.whole(ctx); err != nil {
		return row, err
	}
	pause(ctx, h.Calm)
	at, err := r.whole(ctx)
	if err != nil {
		return row, err
	}
	b := &blow{f: r.f, bound: r.Bound}
	row.Before = at.String()
	served := r.l.mark()
	began := time.Now()
	row.AtNs = int64(began.Sub(r.began))
	r.say("%d: %s, view %s", n, h, at)
	err = b.strike(ctx, h, at)
	row.Hit = b.hits()
	if err != nil {
		return row, errors.Join(err, b.wait())
	}
	undone := make(chan error, 1)
	go func() { undone <- b.wait() }()

	// Protection may come back before what was harmed does; it may also be lost only by then.
	var again time.Duration
	lost, isUndone := false, false
	var end time.Time
	for {
		switch {
		case ctx.Err() != nil:
			<-undone
			return row, ctx.Err()
		case r.broken() != nil:
			return row, r.broken()
		}
		if !isUndone {
			select {
			case err := <-undone:
				if err != nil {
					return row, err
				}
				isUndone, end = true, time.Now().Add(r.Bound)
			default:
			}
		}
		now := r.f.states(ctx)
		r.noteSlow(now)
		p, protected := now.place()
		switch {
		case !protected:
			lost = true
		case lost || p.View > at.View:
			if again == 0 || lost {
				again = time.Since(began)
			}
			lost = false
		}
		row.After = p.String()
		if protected && isUndone && served() {
			break
		}
		if isUndone && time.Now().After(end) {
			row.BlackoutNs = int64(r.l.blackout())
			m := r.machine(ctx)
			return row, violation(Unshielded, "%v after the harm was over: replicas %s (protected: %v), clients served: %v, control says %s %s %s",
				r.Bound, p, protected, served(), m.GetState(), m.GetProtection(), m.GetReason())
		}
		pause(ctx, 20*time.Millisecond)
	}
	row.BlackoutNs, row.ProtectedNs = int64(r.l.blackout()), int64(again)
	r.say("%d: view %s, blackout %s, protected after %s", n, row.After, seconds(row.BlackoutNs), seconds(row.ProtectedNs))
	return row, r.verify(ctx)
}

func (r *run) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Bound, violation(Silent, "not everything could be read back within %v", r.Bound))
	defer cancel()
	if err := orElse(r.broken(), r.l.verify(ctx)); err != nil {
		return err
	}
	return r.checkConsole(ctx)
}

// slow is how long a client waits before what the replicas say meanwhile is kept.
const slow = time.Second

// noteSlow keeps what the replicas say while a client waits for long, at most five times a second.
func (r *run) noteSlow(s states) {
	wait := r.l.waits()
	if wait < slow || time.Since(r.noted) < 200*time.Millisecond {
		return
	}
	r.noted = time.Now()
	said := map[string]json.RawMessage{}
	for name, one := range s {
		said[name] = one.raw
	}
	line, err := json.Marshal(map[string]any{"at": r.noted, "wait_ns": wait, "replicas": said})
	if err != nil {
		return
	}
	f, err := os.OpenFile(filepath.Join(r.Dir, "slow.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.Write(append(line, '\n'))
}

// evidence keeps what would be gone with the processes.
func (r *run) evidence(ctx context.Context) {
	text := r.rep.Verdict + "\n\n"
	for name, s := range r.f.states(ctx) {
		text += name + " " + string(s.raw) + "\n\n"
	}
	if m := r.machine(ctx); m != nil {
		text += protojson.Format(m) + "\n"
	}
	_ = os.WriteFile(filepath.Join(r.Dir, "failure.txt"), []byte(text), 0o600)
}
