package sim

import "time"

// groupFault chooses one thing that goes wrong in a group. Whom it strikes is chosen when it does: mostly those who
// have a part.
func (w *World) groupFault() func() {
	r := &w.rng
	slot, other := r.intn(w.s.hosts), r.intn(w.s.hosts-1)
	if other >= slot {
		other++
	}
	whom := r.intn(10)
	victim := func() *process {
		p := w.members[slot]
		switch rec := w.reg.record; {
		case whom < 4:
			p = w.present(rec.Primary)
		case whom < 7:
			p = w.present(rec.Backup)
		}
		if p != nil && p.dead {
			p = nil
		}
		return p
	}
	s := w.services[r.intn(len(w.services))]
	d := r.between(10*ms, 400*ms)
	until := func() time.Duration { return min(w.now+d, w.s.trouble) }
	switch r.intn(24) {
	case 0, 1, 2, 3, 4:
		fuse, power, at := 1+r.intn(12), r.chance(3), doom(r.intn(7))
		return func() {
			if p := victim(); p != nil {
				p.condemn(at, fuse, power)
			}
		}
	case 5, 6, 7:
		d := r.between(5*ms, 500*ms)
		return func() {
			if p := victim(); p != nil {
				w.tell(nil, "%s is stopped for %v", p.title, d)
				p.stop(d, false)
			}
		}
	case 8:
		suspend := r.chance(3)
		return func() {
			switch p := victim(); {
			case p == nil:
			case suspend:
				w.s.wild = true
				w.tell(nil, "%s is suspended, with its clock, for %v", p.title, d)
				p.stop(d, true)
			default:
				w.tell(nil, "the clock of %s jumps", p.title)
				p.clock.base += w.s.config.HeartbeatEvery + d
			}
		}
	case 9, 10, 11:
		both := r.chance(2)
		return func() {
			from := slot
			if p := victim(); p != nil {
				from = p.slot
			}
			to := (from + 1 + other) % w.s.hosts
			if p := w.members[from]; p != nil && p.mate != nil && d%2 == 0 {
				to = p.mate.slot
			}
			w.wires[from][to].cut = until()
			if both {
				w.wires[to][from].cut = until()
			}
			w.tell(nil, "the network from %s to %s is cut until %v; both ways: %t", memberNames[from], memberNames[to], until(), both)
		}
	case 12:
		return func() {
			if p := victim(); p != nil && p.link != nil && w.s.stream {
				w.tell(nil, "the log channel of %s breaks", p.title)
				p.link.breakOff()
			}
		}
	case 13:
		return w.arbiterFault(until)
	case 14:
		return func() {
			w.tell(nil, "%s and the arbiter are cut off from each other until %v", memberNames[slot], until())
			w.reg.cut[slot] = until()
		}
	case 15:
		disk := r.chance(2)
		return func() {
			switch p := victim(); {
			case p == nil:
			case disk:
				w.tell(nil, "the disk of %s is slow until %v", p.name, until())
				w.slowDisk[p.slot] = until()
			default:
				w.tell(nil, "%s executes slowly until %v", p.title, until())
				p.sluggish = until()
			}
		}
	case 16:
		lag := r.between(20*ms, 300*ms)
		return func() {
			w.tell(nil, "the network from %s to %s is slow until %v", memberNames[slot], memberNames[other], until())
			wr := &w.wires[slot][other]
			old := wr.hi
			wr.hi = lag
			w.plan(d, nil, func() { wr.hi = min(wr.hi, old) })
		}
	case 17:
		return s.kill
	case 18, 19, 20:
		// Cut off from the service, but not from each other: it replaces who is alive.
		how := r.intn(4)
		return func() {
			at := slot
			if p := victim(); p != nil {
				at = p.slot
			}
			for _, s := range w.services {
				if how != 1 {
					s.from[at] = until()
				}
				if how != 2 {
					s.to[at] = until()
				}
				if how == 3 {
					break
				}
			}
			w.tell(nil, "%s and the view service are cut off from each other until %v", memberNames[at], until())
		}
	case 21:
		stop := r.chance(2)
		return func() {
			if stop {
				w.tell(nil, "%s is stopped, or its arbiter out of reach, until %v", s.name, until())
				s.resumes = until()
			} else {
				w.tell(nil, "%s and the arbiter are cut off from each other until %v", s.name, until())
				s.arbiter = until()
			}
		}
	default:
		asked := r.intn(4)
		return func() {
			p := w.present(w.reg.record.Primary)
			if asked == 3 {
				p = victim()
			}
			switch {
			case asked == 0 && p != nil && !p.stopped:
				w.tell(p, "is asked to hand over")
				p.handOver()
			case asked == 3 && p != nil:
				w.tell(p, "wants to leave until %v", until())
				p.member.Leave(true)
				w.planAt(until(), nil, func() { p.member.Leave(false) })
			case asked == 1 && !s.down:
				_, err := s.core.Switch(s.now(), groupName)
				w.tell(nil, "%s is asked for a switch: %v", s.name, err)
				s.ready()
			case asked == 2 && !s.down:
				w.tell(nil, "%s drains %s until %v", s.name, memberNames[slot], until())
				_ = s.core.Drain(s.now(), memberNames[slot], true)
				s.ready()
				w.planAt(until(), nil, func() { _ = s.core.Drain(s.now(), memberNames[slot], false) })
			}
		}
	}
}

func (w *World) arbiterFault(until func() time.Duration) func() {
	how := w.rng.intn(3)
	return func() {
		switch how {
		case 0:
			w.tell(nil, "the arbiter is down until %v", until())
			w.reg.down = until()
		case 1:
			w.tell(nil, "most answers of the arbiter are lost until %v", until())
			w.reg.mute = until()
		default:
			w.tell(nil, "the arbiter is slow until %v", until())
			w.reg.slow = until()
		}
	}
}
