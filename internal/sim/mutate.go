package sim

import (
	"fmt"

	"understudy/replica"
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
	{"namesakes", "messages for a killed process reach the one that was started under its name", mutation{namesakes: true}},
}

// mutation is what a run does wrong. The zero value does nothing wrong.
type mutation struct {
	earlyRelease, everyClaimWins, actWithoutClaim, ackDropped, ackAfterClaim, liveEarly bool
	forgetFreshness, applyTwice, forgetKept, tellEarly, reuseIncarnation, namesakes     bool
	diverge, forgetRequests, askOnce, forgetEnd, repeatAll, neverFull, hastyGoodbye     bool
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
				r.Messages[i].Released = max(r.Messages[i].Released, o.(said).need)
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
	case m.namesakes && p.link == nil:
		former := p.w.everyone[p.slot].link
		p.link = &link{w: p.w, ends: former.ends}
		p.link.ends[p.slot] = p
	}
	return msg
}

// holds may keep outputs from the core.
func (m *mutation) holds(p *process, outs []any) []any {
	if !m.earlyRelease {
		return outs
	}
	for _, o := range outs {
		p.release(o.(said))
	}
	return nil
}

// noClaim tells whether a claim is not even asked.
func (m *mutation) noClaim(p *process, c replica.Claim) bool {
	return m.actWithoutClaim && c.Number > 1
}

// executed may spoil the machine of a backup.
func (m *mutation) executed(p *process) {
	if m.diverge && p.w.rng.chance(300) {
		p.m.counter ^= 1
	}
}

// times is how often an entry is executed.
func (m *mutation) times(p *process) int {
	if m.applyTwice && p.w.rng.chance(300) {
		return 2
	}
	return 1
}
