package replica_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"understudy/arbiter"
	"understudy/event"
	"understudy/replica"
)

const ms = time.Millisecond

// TestTranscripts plays the failure table of docs/protocol.md, one file of testdata each: commands, and all that
// they caused. After a change that is meant to change them: go test ./replica -run Transcripts -rewrite, then read the
// difference.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newStage()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.said.Reset()
			// Several commands, one a line.
			for _, line := range strings.Split(strings.TrimSpace(d.Cmd+" "+args(d)+"\n"+d.Input), "\n") {
				if err := s.command(strings.Fields(line)); err != nil {
					d.Fatalf(t, "%s: %v", line, err)
				}
			}
			if s.said.Len() == 0 {
				return "nothing\n"
			}
			return s.said.String()
		})
	})
}

func args(d *datadriven.TestData) string {
	var words []string
	for _, a := range d.CmdArgs {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}

// stage is a world without chance: messages take 1 ms, the arbiter's answers 2 ms, and nothing goes wrong unless a
// command says so.
type stage struct {
	now     time.Duration
	group   bool     // three that views give their parts, else a pair that claims its views itself
	actors  []*actor // a, b and, in a group, c
	record  arbiter.Record
	arbiter string // "up", "down", "mute": carries claims out, but its answers are lost
	cut     []string
	queue   []delivery
	said    strings.Builder
}

type delivery struct {
	at time.Duration
	to *actor
	f  func(now time.Duration)
}

type actor struct {
	name     string
	core     *replica.Core
	peer     *actor // at the other end of its log channel
	state    *state // that it was sent and has not put together
	dead     bool
	stopped  bool
	slow     bool      // does not execute
	ends     event.Seq // the machine's end: 0 unless known
	acked    replica.Message
	clock    time.Duration // ahead of the stage's
	executed []string
}

// state is a machine's on its way to a backup.
type state struct {
	view replica.ViewNumber
	from string
	seq  event.Seq
}

func stageConfig(id, peer string) replica.Config {
	return replica.Config{
		ID: id, Peer: peer, Incarnation: "life of " + id,
		HeartbeatEvery: 25 * ms, SuspectAfter: 100 * ms, ClaimRetryEvery: 50 * ms, ResendAfter: 60 * ms,
		MaxUnackedBytes: 400, MaxUnappliedBytes: 800,
	}
}

func newStage() *stage {
	a := &actor{name: "a", core: replica.NewPrimary(stageConfig("a", "b")), clock: time.Hour}
	b := &actor{name: "b", core: replica.NewBackup(stageConfig("b", "a")), clock: time.Minute}
	a.peer, b.peer = b, a
	return &stage{arbiter: "up", actors: []*actor{a, b}}
}

func (s *stage) tell(format string, args ...any) {
	fmt.Fprintf(&s.said, "%4dms  %s\n", s.now/ms, fmt.Sprintf(format, args...))
}

func (s *stage) actor(name string) (*actor, error) {
	for _, x := range s.actors {
		if x.name == name {
			return x, nil
		}
	}
	return nil, fmt.Errorf("nobody is called %q", name)
}

func (s *stage) command(words []string) error {
	if len(words) == 0 {
		return nil
	}
	var who *actor
	arg := ""
	if len(words) > 1 {
		arg = words[1]
		who, _ = s.actor(arg)
	}
	switch verb := words[0]; {
	case verb == "begin":
		a, b := s.actors[0], s.actors[1]
		s.do(b, func(now time.Duration) { b.core.PeerUp(now, "life of a") })
		s.do(a, func(now time.Duration) { a.core.PeerUp(now, "life of b") })
		s.run(10 * ms)
	case verb == "group":
		s.group, s.actors = true, nil
		for i, name := range []string{"a", "b", "c"} {
			s.actors = append(s.actors, &actor{name: name, core: replica.NewSpare(stageConfig(name, "")), clock: time.Hour / time.Duration(i+1)})
		}
	case verb == "protect": // a group whose primary a has the backup b, in sync
		return s.all("group", "view 1 a", "adopt a", "view 2 a b", "adopt a", "connect a b", "join a", "restored b", "tick 20ms")
	case verb == "view" && len(words) >= 3: // the view service makes one
		return s.view(words[1:])
	case verb == "tick" && arg != "":
		d, err := time.ParseDuration(arg)
		if err != nil {
			return err
		}
		s.run(d)
	case verb == "ask": // the present primary's machine gets a request and says a reply
		s.ask(words[1:])
	case verb == "arbiter" && (arg == "up" || arg == "down" || arg == "mute"):
		s.arbiter = arg
	case verb == "isolate" && len(words) == 3: // in both directions
		s.cut = append(s.cut, words[1]+words[2], words[2]+words[1])
	case verb == "cut" && len(words) == 3: // from the first to the second
		s.cut = append(s.cut, words[1]+words[2])
	case verb == "heal":
		s.cut = nil
	case verb == "break": // the log channel; both learn of it
		for _, x := range s.actors {
			s.deliver(x, ms, x.core.PeerDown)
		}
	case who == nil:
		return errors.New("not a command, or nobody to do it")
	case verb == "kill": // its sockets close
		s.leave(who)
	case verb == "unplug": // the host loses power: nobody hears of it
		who.dead = true
	case verb == "stop":
		who.stopped = true
	case verb == "resume":
		who.stopped = false
	case verb == "slow":
		who.slow = true
	case verb == "fast":
		who.slow = false
	case verb == "diverge": // as the shell does when digests differ
		s.do(who, func(now time.Duration) { who.core.Halt(now, "the state differs") })
	case verb == "end": // the primary's machine shuts down
		s.do(who, func(now time.Duration) {
			_ = who.core.Append(now, []event.Entry{{Kind: event.KindCommit}})
			who.core.Finish()
			who.peer.ends = who.core.Last()
		})
	case verb == "adopt": // it hears of the view in the register
		s.do(who, func(now time.Duration) { who.core.Adopt(now, s.record) })
	case verb == "connect" && len(words) == 3: // a log channel from the first to the second
		return s.connect(who, words[2])
	case verb == "join":
		return s.join(who)
	case verb == "restored":
		return s.restored(who)
	case verb == "handover":
		var err error
		s.do(who, func(now time.Duration) { err = who.core.HandOver(now) })
		if err != nil {
			s.tell("%s: cannot hand over: %v", who.name, err)
		}
	case verb == "state":
		c := who.core
		if s.group {
			s.tell("%s is %v in view %d, peer %q, alone %t, in sync %t, full %t, holds %d, executed %d, outputs waiting %d",
				who.name, c.Role(), c.View(), c.Peer(), c.Solo(), c.InSync(), c.Full(), c.Last(), c.Applied(), c.HeldOutputs())
			break
		}
		frozen, err := c.Frozen()
		s.tell("%s is %v in view %d, alone %t, full %t, frozen %t %v, holds %d, executed %d, outputs waiting %d",
			who.name, c.Role(), c.View(), c.Solo(), c.Full(), frozen, err, c.Last(), c.Applied(), c.HeldOutputs())
	default:
		return errors.New("not a command")
	}
	return nil
}

func (s *stage) ask(words []string) {
	for _, x := range s.actors {
		if x.core.Role() != replica.Primary || x.dead || x.stopped {
			continue
		}
		for _, w := range words {
			if frozen, _ := x.core.Frozen(); x.core.Full() || frozen {
				s.tell("%s: the machine stands still and does not hear %q", x.name, w)
				return
			}
			s.do(x, func(now time.Duration) {
				_ = x.core.Append(now, []event.Entry{{Kind: event.KindNet, Data: []byte(w)}})
			})
			s.do(x, func(now time.Duration) {
				x.core.Hold(now, []any{"reply to " + w})
				_ = x.core.Append(now, []event.Entry{{Kind: event.KindCommit}})
			})
		}
		return
	}
	s.tell("nobody hears %q", strings.Join(words, " "))
}

func (s *stage) deliver(to *actor, after time.Duration, f func(now time.Duration)) {
	s.queue = append(s.queue, delivery{s.now + after, to, f})
}

func (s *stage) leave(x *actor) {
	x.dead = true
	s.hangUp(x)
}

// hangUp ends x's log channel.
func (s *stage) hangUp(x *actor) {
	o := x.peer
	if o == nil {
		return
	}
	s.deliver(o, ms, func(now time.Duration) {
		if o.peer == x {
			o.core.PeerDown(now)
			if s.group {
				o.peer = nil
			}
		}
	})
	if s.group {
		x.peer = nil
	}
}

func (s *stage) all(lines ...string) error {
	for _, l := range lines {
		if err := s.command(strings.Fields(l)); err != nil {
			return fmt.Errorf("%s: %w", l, err)
		}
	}
	return nil
}

// view has the view service claim a view: number, primary and perhaps backup.
func (s *stage) view(words []string) error {
	n, err := strconv.ParseUint(words[0], 10, 64)
	if err != nil {
		return err
	}
	c := arbiter.Record{Number: n, Primary: words[1], Claimant: "service"}
	if len(words) > 2 {
		c.Backup = words[2]
	}
	if n == 1 {
		c.Claimant = "life of " + c.Primary
	}
	current, won, err := arbiter.Decide(s.record, c)
	if err != nil {
		return err
	}
	if s.record = current; won {
		s.tell("arbiter: grants view %d {%s, %q} to the view service", n, c.Primary, c.Backup)
	} else {
		s.tell("arbiter: view %d is %s's", current.Number, current.Primary)
	}
	return nil
}

func (s *stage) connect(x *actor, name string) error {
	o, err := s.actor(name)
	if err != nil {
		return err
	}
	x.peer, o.peer = o, x
	s.do(o, func(now time.Duration) { o.core.PeerUp(now, "life of "+x.name) })
	s.do(x, func(now time.Duration) { x.core.PeerUp(now, "life of "+o.name) })
	return nil
}

// join has the primary send its state as of now; its backup has it when it is told restored.
func (s *stage) join(x *actor) (err error) {
	st := &state{view: x.core.View(), from: x.name}
	s.do(x, func(now time.Duration) { st.seq, err = x.core.Join(now) })
	if err == nil {
		s.tell("%s: sends its state after entry %d to %s", x.name, st.seq, x.peer.name)
		x.peer.state = st
	}
	return err
}

func (s *stage) restored(x *actor) (err error) {
	st := x.state
	if st == nil {
		return errors.New("nobody has sent it a state")
	}
	x.state = nil
	s.do(x, func(now time.Duration) { err = x.core.Restored(now, st.view, st.from, st.seq, uint64(st.seq)) })
	return err
}

// run lets time pass, 1 ms at a time.
func (s *stage) run(d time.Duration) {
	for end := s.now + d; s.now < end; {
		s.now += ms
		for i := 0; i < len(s.queue); {
			q := s.queue[i]
			switch {
			case q.to.dead:
				s.queue = slices.Delete(s.queue, i, i+1)
			case q.at <= s.now && !q.to.stopped:
				s.queue = slices.Delete(s.queue, i, i+1)
				s.do(q.to, q.f)
			default:
				i++
			}
		}
		for _, x := range s.actors {
			if x.dead || x.stopped {
				continue
			}
			if s.now%(5*ms) == 0 {
				s.do(x, x.core.Tick)
			}
			s.execute(x)
			if stops := x.core.Stopping(); stops || x.core.WantsEntry() {
				s.do(x, func(now time.Duration) {
					_ = x.core.Append(now, []event.Entry{{Kind: event.KindCommit}})
					if stops {
						s.tell("%s: the machine stands still", x.name)
						x.core.Stopped(now)
					}
				})
			}
		}
	}
}

func (s *stage) execute(x *actor) {
	for !x.slow {
		e, ok := x.core.Next()
		if !ok {
			return
		}
		s.do(x, func(now time.Duration) {
			// The machine says the reply on its way to the entry that follows the request.
			if e.Kind == event.KindCommit && len(x.executed) > 0 {
				x.core.Hold(now, []any{"reply to " + x.executed[0]})
				x.executed = x.executed[1:]
			}
			if e.Kind == event.KindNet {
				x.executed = append(x.executed, string(e.Data))
			}
			x.core.ExecutedTo(now, e.Seq, uint64(e.Seq))
			if e.Seq == x.ends {
				x.core.Finish()
			}
		})
	}
}

func (s *stage) do(x *actor, f func(now time.Duration)) {
	if x.dead {
		return
	}
	f(s.now + x.clock)
	r := x.core.Ready()
	for _, n := range r.Notices {
		s.tell("%s: %s", x.name, n.Text)
	}
	for _, m := range r.Messages {
		s.send(x, m)
	}
	if r.HangUp && s.group && x.peer != nil {
		s.tell("%s: closes the log channel to %s", x.name, x.peer.name)
		s.hangUp(x)
	}
	for _, o := range r.Release {
		s.tell("%s: releases %q", x.name, o)
	}
	if r.Claim != nil {
		s.claim(x, *r.Claim)
	}
	if x.core.Role() == replica.Halted {
		s.leave(x)
	}
}

func (s *stage) send(x *actor, m replica.Message) {
	o := x.peer
	if o == nil {
		return
	}
	lost := ""
	if slices.Contains(s.cut, x.name+o.name) {
		lost = " (lost)"
	}
	switch {
	case m.Type == replica.MsgAck && (m.View != x.acked.View || m.Held != x.acked.Held || m.Executed != x.acked.Executed || m.Gap):
		s.tell("%s: → %s ack of view %d, holds %d, executed %d%s", x.name, o.name, m.View, m.Held, m.Executed, lost)
		x.acked = m
	case len(m.Entries) > 0:
		s.tell("%s: → %s entries %d-%d of view %d, released %d%s", x.name, o.name,
			m.Entries[0].Seq, m.Entries[len(m.Entries)-1].Seq, m.View, m.Released, lost)
	}
	if m.Type == replica.MsgHandOver {
		s.tell("%s: → %s it leads view %d, after entry %d%s", x.name, o.name, m.View, m.Held, lost)
	}
	if lost == "" {
		s.deliver(o, ms, func(now time.Duration) {
			if o.peer == x {
				o.core.Step(now, m)
			}
		})
	}
}

func (s *stage) claim(x *actor, c replica.Claim) {
	unknown := func() {
		s.deliver(x, 2*ms, func(now time.Duration) { x.core.Claimed(now, c, arbiter.Record{}, false, errors.New("no answer")) })
	}
	if s.arbiter == "down" || slices.Contains(s.cut, x.name+"arbiter") {
		unknown()
		return
	}
	current, won, err := arbiter.Decide(s.record, c)
	switch {
	case s.group && current != s.record:
		s.tell("arbiter: grants view %d {%s, %q} to %s", c.Number, c.Primary, c.Backup, x.name)
	case s.group && !won:
		s.tell("arbiter: does not grant view %d to %s: it is {%s, %q}", c.Number, x.name, current.Primary, current.Backup)
	case current != s.record:
		s.tell("arbiter: grants view %d to %s, backup %q", c.Number, x.name, c.Backup)
	}
	s.record = current
	if s.arbiter == "mute" {
		unknown()
		return
	}
	s.deliver(x, 2*ms, func(now time.Duration) { x.core.Claimed(now, c, current, won, err) })
}
