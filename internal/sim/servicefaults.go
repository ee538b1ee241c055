package sim

import "time"

// chooseService makes a run's setting of the key-value service.
func (w *World) chooseService() {
	r := &w.rng
	s := &w.s
	s.stream = !r.chance(4)
	s.config.ResendAfter = 60 * ms
	if s.stream {
		s.config.ResendAfter = time.Second
	}
	s.pace = [...]time.Duration{20 * time.Microsecond, 200 * time.Microsecond, ms, 4 * ms}[r.intn(4)]
	s.follow = [...]int{1, 4, 64}[r.intn(3)]
	s.work = [...]time.Duration{20 * time.Microsecond, 500 * time.Microsecond, 4 * ms}[r.intn(3)]
	s.think = [...]time.Duration{ms / 2, 2 * ms, 8 * ms}[r.intn(3)]
	s.flight = 1
	if r.chance(3) {
		s.flight = 2 + r.intn(3)
	}
	s.entryBytes = [...]int{64, 300, 256 << 10}[r.intn(3)]
	s.digests = [...]int{1, 8, 32, 32}[r.intn(4)]
	for i := range s.walls {
		s.walls[i] = r.between(0, 100*ms) - 50*ms
	}
	s.trouble = r.between(300*ms, 3*time.Second)
	s.clockEvery = [...]time.Duration{20 * ms, 100 * ms, time.Hour}[r.intn(3)]
	if s.readers = r.chance(3); s.readers && r.chance(2) {
		s.think = 40 * ms
	}
	s.filing = [...]filing{filesNone, filesNone, filesAlways, filesNo}[r.intn(4)]
	s.strikes = r.chance(4)
	s.fsync = [...]time.Duration{200 * time.Microsecond, 2 * ms, 15 * ms}[r.intn(3)]
	s.twice = [...]int{0, 20, 200}[r.intn(3)]
	s.late = [...]int{0, 5, 50}[r.intn(3)]
}

// planAllDie has all servers killed at once or one after the other; where files survive that, with their hosts.
func (w *World) planAllDie() {
	r := &w.rng
	apart := [...]time.Duration{0, 5 * ms, 100 * ms}[r.intn(3)]
	at := r.between(100*ms, w.s.trouble)
	for slot := range w.members {
		power := r.chance(2)
		w.planAt(at+r.between(0, apart), nil, func() {
			if p := w.members[slot]; p != nil {
				p.kill(power)
			}
		})
	}
}

// planUserFaults has clients learn of a new primary at once, or not at all, when the log channel breaks; and has clients cut off: from all servers, or from one, so that a former primary may be the only one whom a client
// reaches.
func (w *World) planUserFaults() {
	r := &w.rng
	for range r.intn(3) {
		d, early, alone := r.between(20*ms, 500*ms), r.intn(3), r.chance(3)
		w.planAt(r.between(120*ms, max(w.s.trouble, 121*ms)), nil, func() {
			p := w.present(w.reg.record.Primary)
			if p == nil || p.link == nil || p.mate == nil {
				return
			}
			until := min(w.now+d, w.s.trouble)
			w.tell(nil, "the log channel of %s breaks; some clients are cut off from it until %v", p.title, until)
			switch l := p.link; {
			case alone:
				w.tell(nil, "and it is cut off from its backup and the arbiter")
				w.wires[p.slot][p.mate.slot].cut, w.wires[p.mate.slot][p.slot].cut, w.reg.cut[p.slot] = until, until, until
			case l.stream && !l.broken && r.chance(2):
				l.broken, l.vanish = true, r.chance(2)
				l.tellDown(p.mate) // the primary does not notice
			default:
				l.breakOff()
			}
			for i, u := range w.users {
				if u.reads < 10 || i == early {
					u.leader = p.mate.slot
					u.apart[p.slot] = until
				}
			}
		})
	}
	if w.s.filing != filesNone {
		for range r.intn(3) {
			w.planAllDie()
		}
	}
	for range r.intn(3) {
		w.planAt(r.between(120*ms, max(w.s.trouble, 121*ms)), nil, func() {
			if p := w.present(w.reg.record.Primary); p != nil && !p.stopped {
				w.tell(p, "is asked to hand over")
				p.handOver()
			}
		})
	}
	for range r.intn(5) {
		u, slot, d, all := w.users[r.intn(len(w.users))], r.intn(w.s.hosts), r.between(20*ms, 500*ms), r.chance(3)
		w.planAt(r.between(5*ms, w.s.trouble), nil, func() {
			until := min(w.now+d, w.s.trouble)
			if all {
				w.tell(nil, "%s is cut off until %v", u.name, until)
				u.cut = until
				return
			}
			w.tell(nil, "%s and %s are cut off from each other until %v", u.name, memberNames[slot], until)
			u.apart[slot] = until
		})
	}
}
