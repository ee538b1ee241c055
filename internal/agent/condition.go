package agent

import (
	"encoding/json"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "understudy/api/understudy/v1"
)

// progressLine is what is being done before a replica runs.
type progressLine struct {
	step, text string
	done       float64 // 0 to 1; negative: not known
	err        string
}

// condition is how an assignment is: what control is told and what the metrics show.
type condition struct {
	group, machine string
	incarnation    string
	pid            int // 0: no process
	life           int // number of the newest life, 0: none
	begun          int // lives begun by this agent
	role           string
	status         status // newest, of the life that runs or ran last
	raw            string
	at             time.Time
	err            string // why the newest process ended or none could be started
	up             bool   // the guest has said that it is ready
	ended          bool
	code           int
	progress       *progressLine

	sums sums // of lives that have ended
}

// sums are a replica's counters over all lives that this agent has begun: those of a process begin at zero.
type sums struct {
	logBytes, entries, gateNs, gateOutputs, failovers, grantsWon, grantsLost, runNs, idleNs, slowedNs, sentBytes uint64
}

func (s sums) plus(t status) sums {
	s.logBytes += t.LogBytes
	s.entries += t.Entries
	s.gateNs += t.GateNs
	s.gateOutputs += t.GateOutputs
	s.failovers += t.Failovers
	s.grantsWon += t.GrantsWon
	s.grantsLost += t.GrantsLost
	s.runNs += t.RunNs
	s.idleNs += t.IdleNs
	s.slowedNs += t.SlowedNs
	s.sentBytes += t.sent()
	return s
}

// conditionKey is what is reported at once when it changes.
type conditionKey struct {
	group, incarnation, role, err, step, stepErr, to string
	view                                             uint64
	pid                                              int
	answers, guestUp, inSync, ended, solo            bool
}

func (c *condition) key() conditionKey {
	k := conditionKey{
		group: c.group, incarnation: c.incarnation, role: c.role, err: c.err, view: c.status.View, pid: c.pid,
		answers: c.raw != "", guestUp: c.guestUp(), inSync: c.status.InSync, ended: c.ended, solo: c.status.Solo,
	}
	if c.progress != nil {
		k.step, k.stepErr = c.progress.step, c.progress.err
	}
	if c.status.Transfer != nil {
		k.to = c.status.Transfer.To
	}
	return k
}

// guestUp tells whether the machine that the replica holds has come up.
func (c *condition) guestUp() bool { return c.up && holdsState(c.role) }

// begin notes a new life.
func (c *condition) begin(pid, n int, incarnation string) {
	c.pid, c.life, c.incarnation = pid, n, incarnation
	c.begun++
	c.role, c.status, c.raw, c.at = "spare", status{}, "", time.Now()
	c.ended, c.code = false, 0
	// The error of the life before stays until this one has said something: it is why this one was needed.
}

// observe takes a status.
func (c *condition) observe(s status, raw []byte, now time.Time) {
	if before := c.status.sent(); s.sent() < before {
		c.sums.sentBytes += before // another transfer, or none any more
	}
	c.role, c.status, c.raw, c.at, c.err = s.Role, s, string(raw), now, ""
	if s.Incarnation != "" {
		c.incarnation = s.Incarnation
	}
}

// finish notes the end of a life.
func (c *condition) finish(why string) {
	c.sums = c.sums.plus(c.status)
	c.status = status{View: c.status.View}
	c.pid, c.role, c.err, c.at, c.progress = 0, "", why, time.Now(), nil
}

// idle notes that no process runs and what is kept of the machine.
func (c *condition) idle(r record) {
	c.pid, c.progress, c.raw = 0, nil, ""
	if r.Kept != nil {
		raw, _ := json.Marshal(map[string]any{"kept": r.Kept})
		c.raw = string(raw)
		c.status.View = r.Kept.View
	}
}

// proto is the condition as it is reported.
func (c *condition) proto(host string) *pb.Replica {
	var at *timestamppb.Timestamp
	if !c.at.IsZero() {
		at = timestamppb.New(c.at)
	}
	return &pb.Replica{
		Group: c.group, Host: host, Incarnation: c.incarnation, Pid: int32(c.pid), Role: c.role, View: c.status.View,
		StatusJson: c.raw, At: at, Transfer: c.status.Transfer.proto(),
		Restarts: int32(max(0, c.begun-1)), Error: c.err, GuestUp: c.guestUp(), Ended: c.ended, ExitCode: int32(c.code),
	}
}

// progressProto is what is being done before the replica runs; nil if nothing is.
func (c *condition) progressProto() *pb.HostProgress {
	if c.progress == nil {
		return nil
	}
	p := c.progress
	return &pb.HostProgress{Group: c.group, Text: p.text, Step: p.step, Done: p.done, Error: p.err}
}
