package host

import (
	"time"

	"understudy/event"
	"understudy/internal/shareddisk"
	"understudy/replica"
)

// Timeline are the moments of a replica's last change of part, in ns since 1970; 0 means "not yet".
type Timeline struct {
	Suspected   int64 `json:"suspected_ns"`    // the claim was sent to the arbiter
	Granted     int64 `json:"granted_ns"`      // the arbiter granted the view
	Live        int64 `json:"live_ns"`         // everything held was executed, output is released
	FirstOutput int64 `json:"first_output_ns"` // the first frame left

	view replica.ViewNumber
}

// note watches the core after each step.
func (t *Timeline) note(now time.Time, c *replica.Core, r replica.Ready) {
	ns := now.UnixNano()
	if r.Claim != nil && c.View() != 0 && t.Suspected == 0 {
		t.Suspected = ns
	}
	if v := c.View(); v != t.view {
		if t.view != 0 && t.Suspected != 0 {
			t.Granted = ns
		}
		t.view = v
	}
	if c.Role() == replica.Primary && t.Live == 0 && t.Granted != 0 {
		t.Live = ns
	}
	if t.Live != 0 && t.FirstOutput == 0 {
		for _, o := range r.Release {
			if o.(event.Output).Kind == event.OutNet {
				t.FirstOutput = ns
				break
			}
		}
	}
}

// Status is what a replica says of itself. Times are nanoseconds.
type Status struct {
	Name       string   `json:"name"`
	Group      string   `json:"group"`
	Role       string   `json:"role"` // spare, joining, backup, primary, halted
	View       uint64   `json:"view"`
	Solo       bool     `json:"solo"`             // primary without a backup
	Frozen     string   `json:"frozen,omitempty"` // why the machine waits for the arbiter
	HaltReason string   `json:"halt_reason,omitempty"`
	Position   uint64   `json:"position"`       // instructions executed
	GuestNs    uint64   `json:"guest_ns"`       // guest time
	RunNs      uint64   `json:"run_ns"`         // real time spent executing
	IdleNs     uint64   `json:"idle_ns"`        // real time spent waiting with an idle guest
	SlowedNs   uint64   `json:"slowed_ns"`      // real time that the primary slept for a backup that is behind
	SilenceNs  int64    `json:"silence_max_ns"` // longest silence of the other side so far
	LagNs      int64    `json:"lag_ns"`         // guest time that the backup is behind (primary)
	LastSeq    uint64   `json:"last_seq"`
	AckedSeq   uint64   `json:"acked_seq"`
	AppliedSeq uint64   `json:"applied_seq"`
	Held       int      `json:"held"`      // outputs at the gate
	HeldNs     int64    `json:"held_ns"`   // age of the oldest of them
	LogBytes   uint64   `json:"log_bytes"` // sent on the log channel, frames included
	DigestAt   uint64   `json:"digest_at"` // backup: last position with an equal digest
	Timeline   Timeline `json:"timeline"`

	Peer        string    `json:"peer,omitempty"` // the other's name in the view
	InSync      bool      `json:"in_sync"`        // primary: the backup could take over
	Incarnation string    `json:"incarnation"`
	Transfer    *Transfer `json:"transfer,omitempty"` // primary: of the state to a backup that is to join
	GateOutputs uint64    `json:"gate_outputs"`       // outputs that left through the gate
	GateNs      int64     `json:"gate_ns"`            // how long they waited there, all together
	GateMaxNs   int64     `json:"gate_max_ns"`        // and the longest
	GrantsWon   uint64    `json:"grants_won"`         // claims that the arbiter granted
	GrantsLost  uint64    `json:"grants_lost"`
	Failovers   uint64    `json:"failovers"`    // times that this process went from backup to primary
	BlackoutNs  int64     `json:"blackout_ns"`  // of the newest: from the last sign of the primary to going live
	StopMaxNs   int64     `json:"stop_max_ns"`  // longest stop of the machine to be copied
	StopLastNs  int64     `json:"stop_last_ns"` // the newest
	Entries     uint64    `json:"entries"`      // of the log, appended or executed
	Mode        string    `json:"mode"`         // lockstep or checkpoint
	EpochNs     uint64    `json:"epoch_ns"`     // checkpoint: length of an epoch; 0: as load and outputs want it
	Epochs      uint64    `json:"epochs"`       // cut as primary, or applied as backup
	EpochPages  uint64    `json:"epoch_pages"`  // of those cut, all together
	EpochBytes  uint64    `json:"epoch_bytes"`
	EpochStopNs int64     `json:"epoch_stop_ns"` // time that the machine stood still for them, all together
	ConsoleEnd  int64     `json:"console_end"`   // offset behind the last byte that the guest said on its consoles

	SharedDisks     []shareddisk.Status `json:"shared_disks,omitempty"`      // as this replica reaches them
	SharedDiskReads string              `json:"shared_disk_reads,omitempty"` // from where the backup has what was read: log or disk
	LeftOutBytes    uint64              `json:"left_out_bytes"`              // read by the primary, and not sent in the log, as the backup reads them
}

// Status tells how the replica is. It may be called from anywhere, also before the machine runs.
func (r *Replica) Status() Status {
	s := Status{
		Name: r.opt.Name, Group: r.opt.Group,
		Position: r.stats.position.Load(), GuestNs: r.stats.guestNs.Load(),
		RunNs: r.stats.runNs.Load(), IdleNs: r.stats.idleNs.Load(), SlowedNs: r.stats.slowedNs.Load(),
		DigestAt: r.stats.agreed(),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.core == nil {
		s.Role = replica.Spare.String()
		return s
	}
	c := r.core
	s.Role, s.View, s.Solo, s.HaltReason = c.Role().String(), uint64(c.View()), c.Solo(), c.HaltReason()
	if frozen, err := c.Frozen(); frozen && err != nil {
		s.Frozen = err.Error()
	}
	s.LastSeq, s.AckedSeq, s.AppliedSeq = uint64(c.Last()), uint64(c.Acked()), uint64(c.Applied())
	switch {
	case c.Role() == replica.Backup:
		s.AckedSeq = s.LastSeq // it acknowledges what it receives
	case c.Solo():
		s.AppliedSeq = s.LastSeq // there is nobody else to apply anything
	}
	s.SilenceNs = int64(c.MaxSilence())
	s.Held = c.HeldOutputs()
	if at, ok := c.OldestHeld(); ok {
		s.HeldNs = int64(r.now() - at)
	}
	if c.Role() == replica.Primary && !c.Solo() {
		s.LagNs = int64(r.stats.lag())
	}
	s.LogBytes = r.lastBytes
	if r.ch != nil {
		if c.Role() == replica.Backup {
			s.LogBytes += r.ch.ArrivedBytes()
		} else {
			s.LogBytes += r.ch.SentBytes()
		}
	}
	s.Timeline = r.timeline
	s.Peer, s.InSync, s.Incarnation = c.Peer(), c.InSync(), r.life
	if r.member != nil && r.member.sender != nil {
		p := r.member.sender.progress()
		s.Transfer = &p
	}
	for _, d := range r.shared {
		s.SharedDisks = append(s.SharedDisks, d.Status())
		s.SharedDiskReads = ReadsName(r.opt.BackupReads)
	}
	s.LeftOutBytes = r.stats.leftOut.Load()
	g := c.GateStats()
	s.GateOutputs, s.GateNs, s.GateMaxNs = g.Outputs, int64(g.Waited), int64(g.Longest)
	s.GrantsWon, s.GrantsLost = r.stats.won.Load(), r.stats.lost.Load()
	s.Failovers, s.BlackoutNs = r.stats.failovers.Load(), r.stats.blackoutNs.Load()
	s.StopMaxNs, s.StopLastNs = r.stats.stopNs.Load(), r.stats.lastStopNs.Load()
	for i := range r.stats.entries {
		s.Entries += r.stats.entries[i].Load()
	}
	s.Mode, s.EpochNs = r.mode.Following.String(), r.mode.EpochNs
	s.Epochs, s.EpochPages = r.stats.epochs.Load(), r.stats.epochPages.Load()
	s.EpochBytes, s.EpochStopNs = r.stats.epochBytes.Load(), r.stats.epochStops.Load()
	s.ConsoleEnd, _ = r.said.position()
	return s
}
