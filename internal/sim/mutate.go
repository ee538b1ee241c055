package sim

import (
	"fmt"

	"understudy/event"
	"understudy/kv"
	"understudy/replica"
	"understudy/view"
)

// Mutation is a rule broken on purpose, in the shell around the core rather than in the core. The watchers must
// find it.
type Mutation struct {
	Name  string
	About string
	rules mutation
}

// Mutations lists what can be broken, by the names that Options.Mutation takes.
var Mutations = []Mutation{
	{"release-before-ack", "outputs leave as soon as the machine has made them", mutation{earlyRelease: true}},
	{"claim-without-cas", "the arbiter grants every claim, whatever was granted before", mutation{everyClaimWins: true}},
	{"act-without-claim", "whoever suspects the other acts alone without asking the arbiter", mutation{actWithoutClaim: true}},
	{"ack-dropped", "the backup acknowledges entries that it dropped", mutation{ackDropped: true}},
	{"ack-after-claim", "a backup that has claimed the next view still acknowledges entries of the old one", mutation{ackAfterClaim: true}},
	{"live-too-early", "a backup goes live without executing the entries that it holds", mutation{liveEarly: true}},
	{"forget-freshness", "old acknowledgements release output like fresh ones", mutation{forgetFreshness: true}},
	{"apply-twice", "the backup executes an entry twice, once in a while", mutation{applyTwice: true}},
	{"forget-kept-outputs", "a new primary does not repeat the outputs that it kept", mutation{forgetKept: true}},
	{"tell-before-release", "the backup is told that outputs have left when they are about to", mutation{tellEarly: true}},
	{"repeat-all", "the backup is never told of outputs that have left, and so would keep and repeat all", mutation{repeatAll: true}},
	{"hasty-goodbye", "a primary whose machine has ended leaves before its last outputs have", mutation{hastyGoodbye: true}},
	{"never-full", "the primary's machine does not wait when the log is full", mutation{neverFull: true}},
	{"same-incarnation", "a restarted process uses the incarnation of its former life, so that its claims look like repeated ones", mutation{reuseIncarnation: true}},
	{"diverge", "a bit of the backup's machine flips, once in a while", mutation{diverge: true}},
	{"forget-requests", "the machine executes a repeated request again", mutation{forgetRequests: true}},
	{"ask-once", "a claim that was not answered is not asked again", mutation{askOnce: true}},
	{"forget-the-end", "a backup takes no notice of the machine's end", mutation{forgetEnd: true}},
	{"namesakes", "messages for a killed process reach the one that was started under its name; in groups, those of an older log channel", mutation{namesakes: true}},
	{"promote-unsynced", "the view service is told that a backup is in sync as soon as it has one", mutation{syncUnasked: true}},
	{"sync-one-early", "a backup may take over from the entry on that is the newest when output begins to wait for it", mutation{syncEarly: true}},
	{"forget-acknowledgement", "the view service takes every ping of a primary for an acknowledgement of the newest view", mutation{ackUnasked: true}},
	{"join-without-log", "what was appended while a backup put the state together is not sent to it", mutation{joinWithoutLog: true}},
	{"restored-old-state", "a backup gets the state from when its transfer began", mutation{oldState: true}},
	{"handover-without-stop", "the machine runs on while it is handed over", mutation{handRunning: true}},
	{"handover-before-caught-up", "the machine is handed over to a backup that has not got all of its log", mutation{handBehind: true}},
	{"handed-not-gated", "one that was handed the machine releases output without its backup", mutation{handedAlone: true}},
	{"told-before-gate", "a backup that joins is told that outputs have left which the machine may yet say", mutation{toldAhead: true}},
	{"cover-too-early", "in checkpoint mode a backup may take over from the next entry on that is logged, though that is of before output began to wait", mutation{world: worldGroup, coverEarly: true}},
	{"read-without-asking", "a server answers reads without an acknowledgement of something sent after they came", mutation{world: worldKV, readUnasked: true}},
	{"read-what-is-not-held", "a server answers reads though its backup does not hold yet what they saw", mutation{world: worldKV, readUnheld: true}},
	{"reply-one-early", "a server answers when its backup holds all but the newest entry of the batch", mutation{world: worldKV, replyEarly: true}},
	{"answered-by-an-older", "a server answers reads on the strength of an acknowledgement of something sent up to 30 ms before they came", mutation{world: worldKV, oldAnswer: true}},
	{"read-while-frozen", "a server that suspects its backup and waits for the arbiter answers reads", mutation{world: worldKV, frozenReads: true}},
	{"read-at-backup", "a backup answers reads", mutation{world: worldKV, backupReads: true}},
	{"replies-not-in-snapshot", "the last replies to clients are not in the snapshot that a new backup gets", mutation{world: worldKV, onceUnsent: true}},
	{"replies-lost-with-primary", "a new primary does not know the last replies to clients", mutation{world: worldKV, onceLost: true}},
	{"reply-cache-forgets", "the last reply of but one client is kept", mutation{world: worldKV, onceForgets: true}},
	{"refuse-what-is-logged", "a primary that is deposed refuses what it has logged, as if it were not executed", mutation{world: worldKV, refuseLogged: true}},
	{"own-clock", "a backup executes entries at its own time instead of theirs", mutation{world: worldKV, ownClock: true}},
	{"reply-before-stored", "a primary answers before its own disk has what it executed", mutation{world: worldKV, replyUnsynced: true}},
	{"acknowledge-before-stored", "a backup acknowledges entries that its disk may lose", mutation{world: worldKV, ackUnsynced: true}},
	{"marked-before-stored", "a backup marks its files as those of one in sync before they have what makes it so", mutation{world: worldKV, markFirst: true}},
	{"old-files-lead", "a server offers files of a view that is not the newest", mutation{world: worldKV, oldFiles: true}},
}

// mutation is what a run does wrong. The zero value does nothing wrong.
type mutation struct {
	earlyRelease, everyClaimWins, actWithoutClaim, ackDropped, ackAfterClaim, liveEarly bool
	forgetFreshness, applyTwice, forgetKept, tellEarly, reuseIncarnation, namesakes     bool
	diverge, forgetRequests, askOnce, forgetEnd, repeatAll, neverFull, hastyGoodbye     bool
	syncUnasked, syncEarly, ackUnasked, joinWithoutLog, oldState, toldAhead             bool
	handRunning, handBehind, handedAlone, coverEarly                                    bool

	// Of the key-value service.
	readUnasked, readUnheld, replyEarly, oldAnswer, frozenReads, backupReads bool
	onceUnsent, onceLost, onceForgets, refuseLogged, ownClock                bool
	replyUnsynced, ackUnsynced, oldFiles, markFirst                          bool

	world string // the only one in which the mutation means something; empty: pair and group at least
}

func findMutation(name string) (mutation, error) {
	if name == "" {
		return mutation{}, nil
	}
	for i := range Mutations {
		if Mutations[i].Name == name {
			return Mutations[i].rules, nil
		}
	}
	return mutation{}, fmt.Errorf("no mutation is called %q: see understudy sim --help", name)
}

// ready may change what the core asked for.
func (m *mutation) ready(p *process, r *replica.Ready) {
	switch {
	case m.forgetKept && p.role == replica.Backup && p.core.Role() == replica.Primary:
		r.Release = nil
	case m.tellEarly:
		for _, o := range r.Release {
			for i := range r.Messages {
				if s, ok := o.(said); ok {
					r.Messages[i].Released = max(r.Messages[i].Released, s.need)
				}
			}
		}
	case m.syncEarly, m.toldAhead:
		for i := range r.Messages {
			switch a := &r.Messages[i]; {
			case m.syncEarly && a.InSync:
				a.SyncAt = min(a.SyncAt, p.core.Last())
			case m.toldAhead && a.Type == replica.MsgAppend && !a.InSync:
				a.Released++
			}
		}
	case m.ackDropped:
		for i := range r.Messages {
			if a := &r.Messages[i]; a.Type == replica.MsgAck {
				a.Held = max(a.Held, p.saw)
			}
		}
	case m.liveEarly && p.role == replica.Backup && p.core.View() != p.follows:
		p.skip(r)
	}
}

// skip tells the core of entries that were never executed.
func (p *process) skip(r *replica.Ready) {
	for e, ok := p.core.Next(); ok; e, ok = p.core.Next() {
		p.core.ExecutedTo(p.clock.at(p.w.now), e.Seq, 0)
	}
	more := p.core.Ready()
	r.Release = append(r.Release, more.Release...)
	r.Notices = append(r.Notices, more.Notices...)
}

// arrives may change a message that arrives.
func (m *mutation) arrives(p *process, msg replica.Message) replica.Message {
	switch {
	case m.repeatAll:
		msg.Released = 0
	case m.handBehind && p.core.HandingOver() && msg.Type == replica.MsgAck && msg.View == p.core.View():
		msg.Held, msg.Executed = p.core.Last(), p.core.Last()
	case m.forgetFreshness && msg.Type == replica.MsgAck:
		msg.Echo = p.clock.at(p.w.now)
	case m.ackDropped && len(msg.Entries) > 0:
		last := len(msg.Entries) - 1
		p.saw = max(p.saw, msg.Entries[last].Seq)
		if p.w.rng.chance(20) {
			msg.Entries = msg.Entries[:last]
		}
	case m.ackAfterClaim && p.role == replica.Backup && p.askedView > 0 && len(msg.Entries) > 0:
		p.send(replica.Message{
			Type: replica.MsgAck, View: msg.View, Echo: msg.Sent, Held: msg.Entries[len(msg.Entries)-1].Seq,
		})
	case m.namesakes && !p.w.group && p.link == nil:
		former := p.w.everyone[p.slot].link
		p.link = &link{w: p.w, ends: former.ends}
		p.link.ends[p.slot] = p
	}
	return msg
}

// holds may keep outputs from the core.
func (m *mutation) holds(p *process, outs []any) []any {
	handed := m.handedAlone && p.mate != nil && p.w.reg.record.Number == uint64(p.core.View()) && p.w.reg.record.Backup == p.mate.name && p.w.reg.record.Claimant == p.mate.incarnation
	if !m.earlyRelease && !handed {
		return outs
	}
	for _, o := range outs {
		p.release(o)
	}
	return nil
}

// need is the entry that the backup must hold before a batch is answered.
func (m *mutation) need(b *batch, need event.Seq) event.Seq {
	for i := range b.calls {
		if !b.calls[i].read {
			if m.replyEarly {
				need--
			}
			return need
		}
	}
	if m.readUnheld {
		return 0
	}
	return need
}

// answersAlone tells whether a read is answered from the state as it is.
func (m *mutation) answersAlone(p *process) bool {
	frozen, _ := p.core.Frozen()
	return m.backupReads && p.role == replica.Backup || m.frozenReads && p.role == replica.Primary && frozen
}

// noClaim tells whether a claim is not even asked.
func (m *mutation) noClaim(p *process, c replica.Claim) bool {
	return m.actWithoutClaim && c.Number > 1
}

// executed may spoil the machine of a backup.
func (m *mutation) executed(p *process) {
	if m.diverge && p.w.rng.chance(300) {
		if p.kv != nil {
			p.kv.st.kv.Apply(nil, &kv.Call{}, [][]byte{[]byte("SET"), []byte("k0"), []byte("x")})
		} else {
			p.m.counter ^= 1
		}
	}
}

// times is how often an entry is executed.
func (m *mutation) times(p *process) int {
	if m.applyTwice && p.w.rng.chance(300) {
		return 2
	}
	return 1
}

// inSync tells whether the view service is told that the backup is in sync.
func (m *mutation) inSync(p *process) bool {
	early := m.syncEarly && p.core.Ships() && !p.core.Solo() && p.core.Acked() >= p.w.watch.view(p.core.View()).syncAt
	return early || p.core.InSync() || m.syncUnasked && p.core.Peer() != ""
}

// mayRun tells whether the machine runs on though the core is full.
func (m *mutation) mayRun(p *process) bool {
	return m.neverFull && !p.core.HandingOver() || m.handRunning && p.core.HandingOver()
}

// joined may spoil the state that a backup got, after which entry the core is told that it is.
func (m *mutation) joined(q *process, st *state) {
	if m.joinWithoutLog {
		st.seq = q.mate.core.Last()
	}
}

// pinged may change what the view service hears.
func (m *mutation) pinged(s *service, p *process, msg view.Ping) view.Ping {
	if a, err := s.core.Known(groupName); err == nil && m.ackUnasked && a.View.Primary == p.name && msg.View < a.View.Number {
		msg.View, msg.InSync = a.View.Number, false
	}
	return msg
}
