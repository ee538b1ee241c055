package sim

import (
	"understudy/arbiter"
	"understudy/event"
	"understudy/replica"
)

// What the watchers see of the servers of the key-value service. Here an output is a batch of replies, an entry is some
// commands, and the past of a state is the sum of all its entries and replies.

// mark is what is known of a state after an entry.
type mark struct {
	known       bool
	sum, digest uint64 // digest: at some entries, see setting.digests
}

// logged is called when a primary has appended entries from this on.
func (t *watchers) logged(p *process, first event.Seq) {
	v := t.view(p.core.View())
	if v.writer == nil {
		v.writer, v.first = p, first
	}
	if v.writer != p {
		t.w.fail(ruleOneVoice, "%s and %s append to the log of view %d", v.writer.title, p.title, p.core.View())
	}
}

// follows is called when a backup has executed an entry.
func (t *watchers) follows(p *process, s event.Seq) {
	if p.kv.st.seq != s {
		t.w.fail(ruleOnce, "%s executes entry %d as its entry %d", p.title, s, p.kv.st.seq)
		return
	}
	t.reached(p, p.follows)
}

// reached is called when a replica has executed an entry that was appended in a view.
func (t *watchers) reached(p *process, n replica.ViewNumber) {
	v, s := t.view(n), p.kv.st.seq
	if v.writer == nil || s < v.first {
		t.w.fail(ruleOnce, "%s executes entry %d, which is not of view %d", p.title, s, n)
		return
	}
	at := int(s - v.first)
	for at >= len(v.marks) {
		v.marks = append(v.marks, mark{})
	}
	is := mark{known: true, sum: p.kv.st.sum}
	if int(s)%t.w.s.digests == 0 {
		is.digest = p.kv.st.kv.Digest()
	}
	if m := &v.marks[at]; !m.known {
		*m = is
	} else if *m != is {
		t.w.fail(ruleDigests, "%s differs from another after entry %d of view %d: %+v, %+v", p.title, s, n, is, *m)
	} else if is.digest != 0 {
		t.counts.Digests++
	}
}

// replied is called when a batch of replies leaves a replica.
func (t *watchers) replied(p *process, b *batch) {
	st := p.kv.st
	if int(b.need) >= len(st.sums) {
		t.w.fail(ruleOnce, "%s answers on the strength of entry %d, but has executed %d", p.title, b.need, st.seq)
		return
	}
	need := b.need
	if t.w.s.filing != filesNone {
		need = st.worded[need] // entries without commands may be lost with the power
	}
	sum := st.sums[need]
	t.speaks(p, "the replies after entry", int(need), func(other *process) bool {
		return int(need) < len(other.kv.st.sums) && other.kv.st.sums[need] == sum
	})
	// Who takes over from it holds the entry syncAt, and so all before. A backup that has not got that far may forget what it
	// acknowledged: it only joins.
	v := t.view(p.core.View())
	before := v.primary == p && v.told != nil && need < v.syncAt
	if !before && !t.mayActAlone(p, v) && !t.heldByBackup(p, need) {
		t.w.fail(ruleHeld, "%s answers, but nobody holds entry %d with it, and it was not granted to act alone", p.title, need)
	}
	if t.w.s.filing == filesAlways && p.stored() < need {
		t.w.fail(ruleHeld, "%s answers, but its own disk has no entry %d", p.title, need)
	}
	if int(need) >= t.most {
		if int(need) == t.most && t.mostSum != sum {
			t.w.fail(ruleKnown, "%s answers from another state after entry %d than the world has seen", p.title, need)
		}
		t.most, t.mostSum = int(need), sum
	}
	t.counts.Outputs++
}

// knowsState tells whether all that was answered is of the past of a replica's state.
func (t *watchers) knowsState(p *process) {
	if st := p.kv.st; t.most >= len(st.sums) || st.sums[t.most] != t.mostSum {
		t.w.fail(ruleKnown, "%s leads view %d, but entry %d, which was answered, is not of its past", p.title, p.core.View(), t.most)
	}
}

// stored is the newest entry that is on the disk of a replica's host.
func (p *process) stored() event.Seq {
	f := p.kv.files()
	_, last := (&files{past: f.past, items: f.items[:f.synced]}).held()
	return last
}

// recovers is the life that a record makes primary because of its files: it was not alive in the view before, but its host had
// a part there, and they hold all that left in it before output began to wait.
func (t *watchers) recovers(before *viewed, rec arbiter.Record) *process {
	if t.w.s.filing == filesNone {
		return nil
	}
	for _, p := range t.w.everyone {
		if p.incarnation != rec.Claimant || p.name != rec.Primary || p == before.primary || p == before.told {
			continue
		}
		if q := before.primary; q != nil && q.slot == p.slot {
			return p
		}
		if q := before.told; q != nil && q.slot == p.slot && p.kept >= before.syncAt {
			return p
		}
	}
	return nil
}

// heard is called when a client has its answer.
func (t *watchers) heard(u *user, op *kvOperation, c *call) {
	t.counts.Operations++
	if op.verb == verbGet {
		t.counts.Reads++
	}
	if c.at < op.after {
		t.w.fail(ruleFresh, "%s is answered request %d from a state of %d commands, but when it asked others had been answered from one of %d",
			u.name, u.number, c.at, op.after)
	}
	t.told = max(t.told, c.at)
	if op.verb == verbGet && t.w.keys[op.key].kind == keyLog {
		t.once(op.key, bulk(c.reply), nil)
	}
}
