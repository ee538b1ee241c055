package sim

import (
	"time"

	"understudy/replica"
)

const ms = time.Millisecond

// The freshness rule holds while the backup's clock is at most freshDen/freshNum times as fast as the primary's.
const freshNum, freshDen = 3, 4

// choose makes a run's setting.
func (w *World) choose() {
	r := &w.rng
	s := &w.s
	s.stream = r.chance(2)
	s.hosts, s.ping = 2, [...]time.Duration{10 * ms, 20 * ms, 40 * ms}[r.intn(3)]
	if w.group {
		s.hosts = 3 + r.intn(2)
	}
	s.config = replica.Config{
		HeartbeatEvery: 25 * ms, SuspectAfter: 100 * ms, ClaimRetryEvery: 50 * ms, ResendAfter: 60 * ms,
		MaxUnackedBytes: 64 << 10, MaxUnappliedBytes: 256 << 10,
	}
	if s.stream {
		s.config.ResendAfter = time.Second
	}
	if r.chance(4) {
		s.config.MaxUnackedBytes, s.config.MaxUnappliedBytes = 1<<10, 2<<10
	}
	for i := range s.rates {
		switch r.intn(8) {
		case 0, 1, 2:
			s.rates[i] = 1000
		case 3:
			s.rates[i] = 500 + r.intn(1500)
		case 4, 5:
			s.rates[i] = 900 + 200*r.intn(2)
		default:
			s.rates[i] = 900 + r.intn(201)
		}
	}
	s.pace = [...]time.Duration{ms / 2, ms, 2 * ms, 4 * ms}[r.intn(4)]
	s.think = [...]time.Duration{2 * ms, 8 * ms, 30 * ms}[r.intn(3)]
	s.chatter = [...]int{0, 10, 100}[r.intn(3)]
	s.syncs = [...]int{0, 200, 600}[r.intn(3)]
	s.clientLoss = [...]int{0, 0, 10, 80}[r.intn(4)]
	s.claimLoss = [...]int{0, 0, 100, 500}[r.intn(4)]
	s.trouble = r.between(100*ms, 700*ms)
	if w.group {
		s.trouble = r.between(200*ms, 1500*ms)
	}
	if w.kv {
		w.chooseService()
	}
	lossy := [...]int{0, 5, 20, 100}[r.intn(4)]
	for i := range w.wires {
		for j := range w.wires[i] {
			w.wires[i][j] = wire{drop: lossy, dup: lossy / 2, lo: 50 * time.Microsecond, hi: [...]time.Duration{ms, 3 * ms, 15 * ms}[r.intn(3)]}
		}
	}
}

// planFaults chooses what goes wrong and when.
func (w *World) planFaults() {
	r := &w.rng
	n, fault, from := 5, w.fault, 5*ms
	if w.group {
		n, fault = 10, w.groupFault
		if !r.chance(3) { // when there is a group
			from = 120 * ms
		}
	}
	for range r.intn(n) {
		at := r.between(from, w.s.trouble)
		w.planAt(at, nil, fault())
		if r.chance(3) { // two at once
			w.planAt(at+r.between(0, 4*ms), nil, fault())
		}
	}
	if w.kv {
		w.planUserFaults()
	} else if r.chance(12) { // the machine shuts down, by its own wish
		w.planAt(r.between(5*ms, w.s.trouble), nil, func() {
			for _, p := range w.members {
				p.end()
			}
		})
	}
	if r.chance(4) { // the collector of garbage stops each now and then
		for at := time.Duration(0); at < w.s.trouble; at += r.between(5*ms, 120*ms) {
			slot := r.intn(len(w.members))
			d := r.between(ms, 40*ms)
			w.planAt(at, nil, func() { w.members[slot].stop(d, false) })
		}
	}
}

// fault chooses one thing that goes wrong.
func (w *World) fault() func() {
	r := &w.rng
	slot := r.intn(len(w.members))
	victim := func() *process { return w.members[slot] }
	name := memberNames[slot]
	d := r.between(10*ms, 400*ms)
	until := func() time.Duration { return min(w.now+d, w.s.trouble) }
	switch r.intn(20) {
	case 0, 1, 2, 3:
		fuse, power, again := 1+r.intn(12), r.chance(3), r.chance(4)
		at := doom(r.intn(6))
		return func() {
			p := victim()
			if p.condemn(at, fuse, power) && again {
				w.plan(d, nil, func() { w.restart(p) })
			}
		}
	case 4, 5, 6:
		d := r.between(5*ms, 500*ms)
		return func() {
			w.tell(nil, "%s is stopped for %v", victim().title, d)
			victim().stop(d, false)
		}
	case 7:
		if !r.chance(3) {
			return func() {
				w.tell(nil, "the clock of %s jumps", name)
				// Longer than a heartbeat: shorter ones are what the freshness rule's margin is for.
				victim().clock.base += w.s.config.HeartbeatEvery + d
			}
		}
		return func() {
			w.s.wild = true
			w.tell(nil, "%s is suspended, with its clock, for %v", victim().title, d)
			victim().stop(d, true)
		}
	case 8:
		return func() {
			w.tell(nil, "the network between a and b is cut until %v", until())
			w.wires[0][1].cut, w.wires[1][0].cut = until(), until()
		}
	case 9, 10:
		return func() {
			w.tell(nil, "the network from %s is cut until %v", name, until())
			w.wires[slot][1-slot].cut = until()
		}
	case 11:
		return func() {
			if p := victim(); p.link != nil && w.s.stream {
				w.tell(nil, "the log channel breaks")
				p.link.breakOff()
			}
		}
	case 12:
		return func() {
			w.tell(nil, "the arbiter is down until %v", until())
			w.reg.down = until()
		}
	case 13:
		return func() {
			w.tell(nil, "%s and the arbiter are cut off from each other until %v", name, until())
			w.reg.cut[slot] = until()
		}
	case 14:
		mute := r.chance(2)
		return func() {
			if mute {
				w.tell(nil, "most answers of the arbiter are lost until %v", until())
				w.reg.mute = until()
			} else {
				w.tell(nil, "the arbiter is slow until %v", until())
				w.reg.slow = until()
			}
		}
	case 15:
		return func() {
			w.tell(nil, "%s executes slowly until %v", name, until())
			victim().sluggish = until()
		}
	case 16:
		return func() {
			w.tell(nil, "the disk of %s is slow until %v", name, until())
			w.slowDisk[slot] = until()
		}
	case 17, 18: // what tests the freshness rule: the primary is not heard, and hears late that it was
		lag := r.between(60*ms, 110*ms)
		return func() {
			w.tell(nil, "the network from a is cut until %v, and that from b takes %v", until(), lag)
			w.wires[0][1].cut = until()
			wr := &w.wires[1][0]
			lo, hi := wr.lo, wr.hi
			wr.lo, wr.hi = lag-ms, lag
			w.plan(d, nil, func() { wr.lo, wr.hi = min(wr.lo, lo), min(wr.hi, hi) })
		}
	default:
		lag := r.between(20*ms, 300*ms)
		return func() {
			w.tell(nil, "the network from %s is slow until %v", name, until())
			wr := &w.wires[slot][1-slot]
			old := wr.hi
			wr.hi = lag
			w.plan(d, nil, func() { wr.hi = min(wr.hi, old) })
		}
	}
}

// condemn has a process killed at a moment, or some steps from now.
func (p *process) condemn(at doom, fuse int, power bool) bool {
	w := p.w
	if p.dead || p.fuse > 0 || p.doom != doomNone {
		return false
	}
	p.powerOff = power
	switch at {
	case doomAfterSend, doomAtRelease, doomInBetween:
		w.tell(nil, "%s will be killed %s", p.title, [...]string{
			"", "when it has sent messages",
			"when it is about to release output", "when it has sent messages and is about to release output",
		}[at])
		p.doom = at
	case doomJoined:
		w.tell(nil, "%s will be killed some steps after a backup has got the state", p.title)
		p.doom = at
	default:
		w.tell(nil, "%s will be killed %d steps from now", p.title, fuse)
		p.fuse = fuse
	}
	return true
}

// restart starts a killed process again under its name, with nothing of its former state. No shell lets it
// ask for view 1 or join a running pair, but here nothing keeps it from trying.
func (w *World) restart(former *process) {
	if w.healed > 0 || !former.dead || w.members[former.slot] != former {
		return
	}
	p := w.newProcess(former.slot, former.life+1, former.slot == 0)
	w.tell(p, "starts again, with nothing")
	if former.slot == 0 {
		w.plan(w.rng.between(0, 3*ms), p, func() { p.do(func(now time.Duration) { p.core.PeerUp(now, "") }) })
	}
}
