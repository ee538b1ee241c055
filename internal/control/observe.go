package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	api "understudy/api/understudy/v1"
	"understudy/view"
)

// observe learns how a machine's group is: from the view service, or, for as long as nobody pings, from the register.
func (c *Control) observe(m *machine, now time.Time) {
	st, err := c.views.Status(c.ctx, m.Group)
	switch {
	case err == nil && st.Why != "waits for the arbiter" || st.View.Number > 0:
		m.known = true
		m.acked, m.inSync, m.why = st.Acked, st.InSync, st.Why
		c.sawView(m, st.View, st.Claimant, now)
		return
	case err != nil && !errors.Is(err, view.ErrUnknown):
		return
	}
	if m.looking || now.Sub(m.lookedAt) < time.Second {
		return
	}
	m.looking = true
	group := m.Group
	c.beside(2*time.Second, func(ctx context.Context) func() {
		rec, err := c.cfg.Register.Get(ctx, group)
		return func() {
			m.looking, m.lookedAt = false, time.Now()
			if err != nil || group != m.Group {
				return
			}
			m.known = true
			m.acked, m.inSync, m.why = false, false, "nobody was heard"
			c.sawView(m, view.View{Number: view.Number(rec.Number), Primary: rec.Primary, Backup: rec.Backup}, rec.Claimant, time.Now())
		}
	})
}

// sawView takes note of a view.
func (c *Control) sawView(m *machine, v view.View, claimant string, now time.Time) {
	if v.Number <= m.view.Number {
		return
	}
	old := m.view
	m.view, m.claimant, m.safe = v, claimant, false
	m.joins = ""
	if old.Number > 0 && v.Backup != "" && !old.Names(v.Backup) {
		m.joins = v.Backup
	}
	if !m.Founded {
		m.Founded, m.dirty = true, true
	}
	first := old.Number == 0 && v.Number > 1 // control has just begun: nothing changed
	if m.Last != v.Primary {
		m.Last, m.dirty = v.Primary, true
	}
	if first {
		return
	}
	c.event("view.changed", m.spec.Name, v.Primary, uint64(v.Number), "%s", viewText(m, old, v))
	if old.Number > 0 && old.Primary != v.Primary {
		m.Failovers++
		m.dirty = true
		m.changed, m.former, m.Blackout = now, old.Primary, 0
	}
	for n := range m.whys {
		if n <= uint64(v.Number) {
			delete(m.whys, n)
		}
	}
}

// viewText tells who made a view, and why.
func viewText(m *machine, old, v view.View) string {
	text := fmt.Sprintf("view %d: primary %s, no backup", v.Number, v.Primary)
	if v.Backup != "" {
		text = fmt.Sprintf("view %d: primary %s, backup %s", v.Number, v.Primary, v.Backup)
	}
	why, ours := m.whys[uint64(v.Number)]
	switch {
	case v.Number == 1:
		return text + "; the first"
	case ours && strings.HasPrefix(m.claimant, "control-"):
		return text + "; by the view service: " + why
	case strings.HasPrefix(m.claimant, "control-"):
		return text + "; by the view service"
	case old.Number+1 == v.Number && v.Primary == old.Backup && v.Backup == old.Primary:
		return text + "; handed over by " + old.Primary
	}
	return text + "; by the claim of a replica"
}

// takeNotices turns what the view service has to say into events.
func (c *Control) takeNotices() {
	c.noticeMu.Lock()
	notices := c.notices
	c.notices = nil
	c.noticeMu.Unlock()
	for _, n := range notices {
		m := c.byGroup(n.Group)
		if m == nil {
			continue
		}
		var next uint64
		switch _, err := fmt.Sscanf(n.Text, "claims view %d", &next); {
		case err == nil:
			if _, why, ok := strings.Cut(n.Text, "}: "); ok && len(m.whys) < 100 {
				m.whys[next] = why
			}
		case strings.HasPrefix(n.Text, "acknowledged by "), strings.HasPrefix(n.Text, "primary "), strings.HasPrefix(n.Text, "backup "):
			// view.changed and protected tell of it.
		default:
			c.event("view.notice", m.spec.Name, "", uint64(n.View), "%s", n.Text)
		}
	}
}

func (c *Control) byGroup(group string) *machine {
	for _, m := range c.machines {
		if m.Group == group {
			return m
		}
	}
	return nil
}

// replica is what a host reported of its replica of the machine's present group, or nil.
func (c *Control) replica(m *machine, name string) *api.Replica {
	if h := c.hosts[name]; h != nil {
		return h.replicas[m.Group]
	}
	return nil
}

// takeEnd notices that the guest has shut down.
func (c *Control) takeEnd(m *machine) {
	for _, n := range m.Hosts {
		r := c.replica(m, n)
		if r == nil || !r.Ended {
			continue
		}
		// Its process is over: the view may be one that it made itself. What counts is that it had a part.
		m.Ended, m.ExitCode, m.LAN, m.dirty = true, r.ExitCode, "", true
		m.lanOld, m.lanAt = true, time.Time{}
		m.reason = endText(r.ExitCode)
		c.event("machine.ended", m.spec.Name, n, uint64(m.view.Number), "%s", m.reason)
		return
	}
}

func endText(code int32) string {
	switch code {
	case 0:
		return "the guest has shut down"
	case 1:
		return "the guest reported a failure"
	case 3:
		return "the guest asked for a reboot"
	}
	return fmt.Sprintf("the guest ended with code %d", code)
}

// refusals notices that a founder cannot do it. A host founds a group once: if its replica has ended before view 1,
// another host is tried.
func (c *Control) refusals(m *machine) {
	if m.Founded || m.Founder == "" {
		return
	}
	why := ""
	if m.progress != nil && m.progress.Error != "" {
		why = m.progress.Error
	}
	if r := c.replica(m, m.Founder); r != nil && r.Error != "" && r.Pid == 0 {
		why = r.Error
	}
	if why != "" && m.refused[m.Founder] == "" {
		m.refused[m.Founder] = why
		m.progress = nil
		c.event("machine.refused", m.spec.Name, m.Founder, 0, "host %s cannot start it: %s", m.Founder, why)
	}
}

// judge finds a machine's state in words.
func (c *Control) judge(m *machine, now time.Time) {
	m.state, m.reason = c.stateOf(m, now)
	if !m.live() {
		return
	}
	p := c.replica(m, m.view.Primary)
	if p != nil && p.GuestUp && !m.Up {
		m.Up, m.dirty = true, true
		c.event("machine.up", m.spec.Name, m.view.Primary, uint64(m.view.Number), "the guest is up")
	}
	if !m.changed.IsZero() {
		c.tellFailover(m, p, now)
	}
	c.tellTransfer(m, p)
	if m.inSync && !m.safe {
		c.event("protected", m.spec.Name, m.view.Backup, uint64(m.view.Number), "backup %s is in sync", m.view.Backup)
	}
	m.safe = m.inSync
}

func (c *Control) stateOf(m *machine, now time.Time) (state, reason string) {
	switch {
	case m.Ended:
		return stateEnded, endText(m.ExitCode)
	case m.Stopped:
		return stateStopped, ""
	case m.view.Number == 0 && len(m.refused) > 0 && m.Founder == "":
		return stateStuck, "no host can start it: " + c.refusalText(m)
	}
	// A host that is slow for a moment, or a replica that is about to claim a view itself, is no reason to give up.
	if reason = c.whyStuck(m, now); reason == "" {
		m.stuckSince = time.Time{}
	} else if m.stuckSince.IsZero() {
		m.stuckSince = now
	}
	switch {
	case reason != "" && now.Sub(m.stuckSince) >= c.cfg.LostAfter:
		return stateStuck, reason
	case m.Up:
		return stateRunning, ""
	case m.view.Number == 0 && m.Founder == "":
		return statePlacing, ""
	}
	return stateStarting, ""
}

// whyStuck says why nobody can go on with a machine at present; empty if somebody can.
func (c *Control) whyStuck(m *machine, now time.Time) string {
	if why, stopped := strings.CutPrefix(m.why, "stopped"); stopped {
		return strings.TrimPrefix(why, ": ")
	}
	if m.view.Number == 0 || !c.settled(now) || c.isReady(m.view.Primary) || m.inSync && c.isReady(m.view.Backup) {
		return ""
	}
	// Perhaps it runs, and only control is cut off.
	switch {
	case m.inSync:
		return fmt.Sprintf("no word from hosts %s and %s, which have its state", m.view.Primary, m.view.Backup)
	case m.acked && m.view.Backup == "":
		return fmt.Sprintf("no word from host %s, which alone has its state", m.view.Primary)
	}
	return fmt.Sprintf("no word from host %s; nobody else is known to have its state", m.view.Primary)
}

func (c *Control) isReady(name string) bool {
	h := c.hosts[name]
	return h != nil && h.ready
}

func (c *Control) refusalText(m *machine) string {
	var all []string
	for n, why := range m.refused {
		all = append(all, n+": "+why)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// replicaStatus is what control reads of a replica's own status; see docs/formats.md.
type replicaStatus struct {
	Solo      bool   `json:"solo"`
	Frozen    string `json:"frozen"`
	LagNs     int64  `json:"lag_ns"`
	Held      int    `json:"held"`
	HeldNs    int64  `json:"held_ns"`
	LogBytes  uint64 `json:"log_bytes"`
	Won       uint64 `json:"grants_won"`
	Lost      uint64 `json:"grants_lost"`
	Position  uint64 `json:"position"`
	BlackNs   int64  `json:"blackout_ns"`
	SlowedNs  uint64 `json:"slowed_ns"`
	SilenceNs int64  `json:"silence_max_ns"`
	Timeline  struct {
		Suspected   int64 `json:"suspected_ns"`
		Live        int64 `json:"live_ns"`
		FirstOutput int64 `json:"first_output_ns"`
	} `json:"timeline"`
}

func statusOf(r *api.Replica) (s replicaStatus) {
	if r != nil && r.StatusJson != "" {
		_ = json.Unmarshal([]byte(r.StatusJson), &s) // what is not understood counts as zero
	}
	return s
}

// failoverWait is how long the tale of a failover waits for the new primary's own account.
const failoverWait = 3 * time.Second

func (c *Control) tellFailover(m *machine, p *api.Replica, now time.Time) {
	s := statusOf(p)
	if m.handing && now.Sub(m.changed) < handoverLimit {
		return // who asked for it will know the pause
	}
	reported := p != nil && p.View == uint64(m.view.Number) && p.Role == "primary"
	switch {
	case m.pauseView == uint64(m.view.Number):
		m.Blackout = m.pause
	case reported:
		switch {
		case s.BlackNs > 0:
			m.Blackout = time.Duration(s.BlackNs)
		case s.Timeline.Suspected > 0 && s.Timeline.Live >= s.Timeline.Suspected:
			m.Blackout = time.Duration(s.Timeline.Live - s.Timeline.Suspected)
		}
	}
	if m.Blackout == 0 && now.Sub(m.changed) < failoverWait {
		return
	}
	text := fmt.Sprintf("%s took over from %s", m.view.Primary, m.former)
	if m.Blackout > 0 {
		text += fmt.Sprintf("; the machine stood still for %v", m.Blackout.Round(100*time.Microsecond))
	}
	c.event("failover", m.spec.Name, m.view.Primary, uint64(m.view.Number), "%s", text)
	m.changed, m.dirty = time.Time{}, true
}

// tellTransfer tells of a state transfer at its begin, at every quarter and at its end.
func (c *Control) tellTransfer(m *machine, p *api.Replica) {
	if p == nil || p.Transfer == nil || p.Transfer.TotalBytes == 0 || p.View != uint64(m.view.Number) {
		// A quick transfer may be over before the host has reported it.
		if m.inSync && (m.transfer > 0 || m.joins != "") {
			c.event("transfer.done", m.spec.Name, m.view.Backup, uint64(m.view.Number), "%s holds the state", m.view.Backup)
			m.joins = ""
		}
		m.transfer = 0
		return
	}
	if m.inSync && m.transfer == 0 {
		return // an old report
	}
	t := p.Transfer
	quarter := 1 + int(4*min(t.DoneBytes, t.TotalBytes)/t.TotalBytes)
	switch {
	case m.transfer == 0:
		c.event("transfer.started", m.spec.Name, t.To, uint64(m.view.Number), "sends the state to %s, %s", t.To, sizeText(t.TotalBytes))
	case quarter > m.transfer && quarter <= 4:
		c.event("transfer.progress", m.spec.Name, t.To, uint64(m.view.Number), "%s: %s", t.To, transferText(t))
	}
	m.transfer = max(m.transfer, quarter)
}

func transferText(t *api.Transfer) string {
	text := "joining"
	if t.TotalBytes > 0 {
		text = fmt.Sprintf("joining %d%%", 100*min(t.DoneBytes, t.TotalBytes)/t.TotalBytes)
	}
	if t.TotalBytes > 0 && t.Left.AsDuration() > 0 {
		text += fmt.Sprintf(", %.1f s left", t.Left.AsDuration().Seconds())
	}
	return text
}

func sizeText(n uint64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
