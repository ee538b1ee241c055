package sim

import (
	"time"

	"understudy/arbiter"
	"understudy/event"
	"understudy/replica"
)

// The watchers' names are those of the rules that they watch.
const (
	ruleOneVoice  = "one voice per view"
	ruleNoReturn  = "no lower view after a higher"
	ruleHeld      = "held before released"
	ruleKnown     = "what was seen is known"
	ruleInOrder   = "outputs in order"
	ruleOnce      = "each entry once"
	ruleDigests   = "digests agree"
	ruleLinear    = "linearizable"
	ruleComesBack = "comes back"
	ruleOrderly   = "orderly end"
	ruleBounded   = "bounded log"
	ruleNumbers   = "one view per number"
	ruleHeirs     = "only heirs lead"
	ruleFresh     = "no stale answer"
	ruleOnceEach  = "executed at most once"
)

// viewed is what the watchers know of a view.
type viewed struct {
	rec     arbiter.Record // as it was granted
	primary *process       // the life that it makes primary: one that had its part in the view before, or founded; nil: none
	told    *process       // the life of which somebody was told that it may take over
	syncAt  event.Seq      // if it holds this entry
	loose   bool           // its primary may have begun while the one before it was still releasing: see stale

	voice   *process // who releases output in it
	last    int      // newest output released in it
	writer  *process // who appends to the log in it
	first   event.Seq
	digests []uint64 // of the writer's machine after each entry that it appended
	marks   []mark   // servers of the key-value service: of whoever executed each entry first
}

// watchers see what left the replicas and what their machines executed, and compare it with the rules. They
// ask the core for its view's number and for nothing else that a rule is about.
type watchers struct {
	w       *World
	views   []viewed
	chains  []uint64        // said.chain of every output that was ever released; 0: not yet
	left    []time.Duration // when each output left for the first time
	bare    []bool          // and whether the entry after it was not made then: only one who acts alone may do that
	most    int             // highest output that was ever released; of servers, the highest entry that a reply depended on
	mostSum uint64          // servers: of the state after that entry
	told    uint64          // servers: commands that had been executed as far as any client knows
	highest replica.ViewNumber
	counts  Counts
	ends    bool // a primary left after its backup had executed the machine's end
}

// Counts tells what a run was made of, so that a test can see that the scenarios reach what they should.
type Counts struct {
	Steps    int
	Outputs  int // released
	Answers  int // that clients got
	Views    int // highest view in which output was released
	LiveRuns int // backups that went live
	Synced   int // groups: times that a backup was said to be in sync
	Handed   int // groups: views that a primary claimed for its backup
	Promoted int // groups: views in which the view service made a backup primary
	Late     int // outputs released after one of a higher view, where that is allowed
	Dead     int // runs that ended with nobody left who might lead
	Ended    int // runs in which the machine shut down

	Operations int // of clients of the key-value service, answered
	Reads      int // of these
	Checked    int // operations in the histories that were found linearizable, those with unknown outcome too
	Unchecked  int // keys whose history took too long to check
	Retries    int // times that a client repeated an operation, or gave it up
	Refused    int // times that a client was told to ask somebody else
	Recovered  int // views in which files brought the group back
	Digests    int // states of two replicas that were compared as a whole

	Slowest time.Duration // from the end of the faults until every client was served, and a group's machine protected
}

// Add sums up.
func (c *Counts) Add(d Counts) {
	c.Steps += d.Steps
	c.Outputs += d.Outputs
	c.Answers += d.Answers
	c.Views += d.Views
	c.LiveRuns += d.LiveRuns
	c.Synced += d.Synced
	c.Handed += d.Handed
	c.Promoted += d.Promoted
	c.Late += d.Late
	c.Dead += d.Dead
	c.Ended += d.Ended
	c.Operations += d.Operations
	c.Reads += d.Reads
	c.Checked += d.Checked
	c.Unchecked += d.Unchecked
	c.Retries += d.Retries
	c.Refused += d.Refused
	c.Recovered += d.Recovered
	c.Digests += d.Digests
	c.Slowest = max(c.Slowest, d.Slowest)
}

func (t *watchers) view(n replica.ViewNumber) *viewed {
	for int(n) >= len(t.views) {
		t.views = append(t.views, viewed{})
	}
	return &t.views[n]
}

// released is called for every output that leaves a replica.
func (t *watchers) released(p *process, s said) {
	n := p.core.View()
	v := t.view(n)
	t.speaks(p, "output", s.n, func(other *process) bool { return s.n <= len(other.m.chains) && other.m.chains[s.n-1] == s.chain })

	if !t.mayActAlone(p, v) && !t.heldByBackup(p, s.need) {
		t.w.fail(ruleHeld, "%s releases output %d, but nobody holds entry %d with it, and it was not granted to act alone", p.title, s.n, s.need)
	}

	switch {
	case v.last == 0 && s.n > t.most+1:
		t.w.fail(ruleInOrder, "%s begins view %d with output %d, but the newest that ever left is %d", p.title, n, s.n, t.most)
	case v.last != 0 && s.n != v.last+1:
		t.w.fail(ruleInOrder, "%s releases output %d after output %d", p.title, s.n, v.last)
	}
	v.last = s.n

	for len(t.chains) < s.n {
		t.chains = append(t.chains, 0)
		t.left = append(t.left, t.w.now)
		made := p.m.delivered
		if t.w.s.epochs {
			made = p.core.Last()
		}
		t.bare = append(t.bare, made < s.need)
	}
	if t.left[s.n-1] < p.heard && !t.bare[s.n-1] {
		t.w.fail(ruleInOrder, "%s repeats output %d, though it heard of its release", p.title, s.n)
	}
	if known := t.chains[s.n-1]; known != 0 && known != s.chain {
		t.w.fail(ruleKnown, "%s releases another output %d than the world has seen", p.title, s.n)
	}
	t.chains[s.n-1] = s.chain
	t.most = max(t.most, s.n)
	t.counts.Outputs++
}

// speaks is called when a replica says something to the world. known tells whether another has said the same, or could.
func (t *watchers) speaks(p *process, what string, which int, known func(other *process) bool) {
	n := p.core.View()
	v := t.view(n)
	switch {
	case v.voice == nil:
		v.voice = p
	case v.voice != p:
		t.w.fail(ruleOneVoice, "%s and %s release output in view %d", v.voice.title, p.title, n)
	}
	if n < t.highest {
		t.stale(p, what, which, known)
	}
	t.highest = max(t.highest, n)
}

// stale judges output of a lower view after output of a higher one.
//
// The freshness rule (package replica) excludes it as long as clocks run within its margin and the backup
// claims because of silence. It cannot exclude it when a backup claims at once because the channel broke, while
// the primary lives on and still has fresh acknowledgements to read. Such output does no harm to any state: it
// depends only on entries that the new primary held before it claimed, so the new primary's machine has said the
// same, and whoever asked for it asked before. This is what is demanded here, whatever the clocks do.
func (t *watchers) stale(p *process, what string, which int, known func(other *process) bool) {
	now := t.views[t.highest].voice
	loose := t.w.s.wild
	for n := p.core.View() + 1; n <= t.highest; n++ {
		loose = loose || t.view(n).loose
	}
	if !loose {
		t.w.fail(ruleNoReturn, "%s releases %s %d in view %d, but output of view %d has left %s already",
			p.title, what, which, p.core.View(), t.highest, now.title)
		return
	}
	t.counts.Late++
	if !known(now) {
		t.w.fail(ruleNoReturn, "%s releases %s %d in view %d, which the primary of view %d, %s, does not know",
			p.title, what, which, p.core.View(), t.highest, now.title)
	}
}

func (t *watchers) heldByBackup(p *process, need event.Seq) bool {
	if t.w.s.filing != filesNone {
		return p.mate != nil && p.mate.kept >= need
	}
	return p.mate != nil && p.mate.held >= need
}

// mayActAlone tells whether the view was granted to this life without a backup, or with one of which nobody was told
// yet that it may take over.
func (t *watchers) mayActAlone(p *process, v *viewed) bool {
	if t.w.group {
		return v.primary == p && (v.rec.Backup == "" || v.told == nil)
	}
	return v.rec.Claimant == p.incarnation && v.rec.Primary == p.name && v.rec.Backup == ""
}

// inSync is the backup of a view that holds all that has left, if somebody was told that it does.
func (v *viewed) inSync() *process {
	if v.told == nil || v.told.held < v.syncAt {
		return nil
	}
	return v.told
}

// granted is called when the arbiter grants a number.
func (t *watchers) granted(rec arbiter.Record) {
	v := t.view(replica.ViewNumber(rec.Number))
	if v.rec.Number != 0 && t.w.group {
		t.w.fail(ruleNumbers, "number %d was granted as %+v and as %+v", rec.Number, v.rec, rec)
	}
	v.rec = rec
	if rec.Number == 1 {
		for _, p := range t.w.everyone {
			if p.incarnation == rec.Claimant {
				v.primary = p
			}
		}
		return
	}
	before := t.view(replica.ViewNumber(rec.Number - 1))
	if p := t.recovers(before, rec); p != nil {
		v.primary = p
		t.counts.Recovered++
		return
	}
	for _, p := range []*process{before.primary, before.inSync()} {
		switch {
		case p == nil:
		case p.name == rec.Primary:
			v.primary = p
			if p != before.primary && p.incarnation != rec.Claimant && before.primary != nil && before.primary.incarnation != rec.Claimant {
				t.counts.Promoted++
			}
		case p.name == rec.Backup && p.incarnation == rec.Claimant:
			v.told = p // handed over: it holds all that its successor holds
			t.counts.Handed++
		}
	}
	if v.primary == nil && t.w.group {
		t.w.fail(ruleHeirs, "view %d makes %s primary, which had no part in the view before", rec.Number, rec.Primary)
	}
}

// sent is called for every message that a replica sends.
func (t *watchers) sent(p *process, m replica.Message) {
	if m.Type != replica.MsgAppend || !m.InSync || p.role != replica.Primary {
		return
	}
	switch v := t.view(m.View); v.told {
	case nil:
		v.told, v.syncAt = p.mate, m.SyncAt
		if t.w.group {
			t.counts.Synced++
			p.joined()
		}
	case p.mate:
		v.syncAt = min(v.syncAt, m.SyncAt) // far away until the entry is made
	}
}

// acts is called when a replica begins to act as primary of a view.
func (t *watchers) acts(p *process) {
	n := p.core.View()
	v := t.view(n)
	if v.primary != p && t.w.group {
		t.w.fail(ruleHeirs, "%s acts as primary of view %d, but had no part in the view before that makes it so", p.title, n)
	}
	if n <= 1 {
		return
	}
	if former := t.view(n - 1).primary; former != p && former != nil {
		fast := t.w.s.rates[p.slot]*freshNum > t.w.s.rates[former.slot]*freshDen
		v.loose = fast || p.early || p.askedView < uint64(n) && p.brokenAt != 0
	}
}

// live is called when a backup goes live, before its outputs leave.
func (t *watchers) live(p *process) {
	t.counts.LiveRuns++
	if done := p.executed(); done != p.core.Last() {
		t.w.fail(ruleOnce, "%s goes live after executing %d of %d entries", p.title, done, p.core.Last())
	}
	// One that was handed the machine may hear of it late. It cannot say anything then: its backup has gone on.
	if t.w.reg.record.Number <= uint64(p.core.View()) {
		t.knows(p)
	}
}

// solo is called when a replica begins to act alone.
func (t *watchers) solo(p *process) { t.knows(p) }

func (t *watchers) knows(p *process) {
	if p.kv != nil {
		t.knowsState(p)
		return
	}
	if t.most > len(p.m.chains) || t.most > 0 && p.m.chains[t.most-1] != t.chains[t.most-1] {
		t.w.fail(ruleKnown, "%s leads view %d, but output %d, which the world has seen, is not of its past", p.title, p.core.View(), t.most)
	}
}

// appended is called when a primary's machine has taken an entry, or, if that is later, when it is about to be logged.
func (t *watchers) appended(p *process, s event.Seq, digest uint64) {
	v := t.view(p.core.View())
	if v.writer == nil {
		v.writer, v.first = p, s
	}
	if v.writer != p {
		t.w.fail(ruleOneVoice, "%s and %s append to the log of view %d", v.writer.title, p.title, p.core.View())
	}
	v.digests = append(v.digests, digest)
}

// executed is called when a backup's machine has taken an entry.
func (t *watchers) executed(p *process, s event.Seq) {
	if p.m.delivered != s {
		t.w.fail(ruleOnce, "%s executes entry %d as its entry %d", p.title, s, p.m.delivered)
		return
	}
	v := t.view(p.follows)
	if s < v.first || int(s-v.first) >= len(v.digests) {
		t.w.fail(ruleOnce, "%s executes entry %d, which is not of view %d", p.title, s, p.follows)
		return
	}
	if v.digests[s-v.first] != p.m.digest() {
		t.w.fail(ruleDigests, "%s differs from %s after entry %d", p.title, v.writer.title, s)
	}
}

// asked is called when a claim is handed to the shell.
func (t *watchers) asked(p *process, c replica.Claim) {
	if t.ends && (p.life == 1 || t.w.group) { // one that was started again asks for view 1, in vain
		t.w.fail(ruleOrderly, "%s claims view %d after both had executed the machine's end", p.title, c.Number)
	}
	if c.Number > p.askedView {
		p.askedView = c.Number
		p.early = p.role == replica.Backup && p.brokenAt == t.w.now
	}
}

// ended is called when a replica leaves because its machine has ended; both, if it knows that the other has executed that.
func (t *watchers) ended(p *process, both bool) {
	t.ends = t.ends || both
	if n := len(p.m.chains); (both || p.core.Solo()) && t.most < n {
		t.w.fail(ruleOrderly, "%s leaves at the machine's end, but outputs %d to %d never left", p.title, t.most+1, n)
	}
	t.w.over = true
}

// backlog is called when a backup has taken a message.
func (t *watchers) backlog(p *process) {
	const leastEntry, oneStop = 64, 64 // bytes that an entry counts at least; more entries than one stop ever has
	if n := int(p.core.Last() - p.core.Applied()); (n-oneStop)*leastEntry > t.w.s.config.MaxUnappliedBytes {
		t.w.fail(ruleBounded, "%s holds %d entries that it has not executed", p.title, n)
	}
}

// end judges the run as a whole.
func (t *watchers) end() {
	w := t.w
	if err := linear(w.clients); err != nil {
		w.fail(ruleLinear, "%v", err)
	}
	t.lastValues()
	t.histories()
	for _, p := range w.members {
		if !p.dead && p.role == replica.Primary && p.core.Solo() {
			t.knows(p)
		}
	}
}
