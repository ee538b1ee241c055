package sim

import "time"

// operation is one request in a client's history.
type operation struct {
	request
	answer
	asked, got time.Duration
	done       bool
}

// client asks for one thing at a time and repeats it until it is answered, as TCP would for it.
type client struct {
	w      *World
	id     int
	number uint32
	open   bool
	past   []operation
	cut    time.Duration // cannot be reached until
	after  int           // requests asked and answered after the faults had stopped
}

func (c *client) think() {
	w := c.w
	d := w.rng.between(0, w.s.think)
	if w.rng.chance(30) {
		d += w.rng.between(0, 200*time.Millisecond)
	}
	w.plan(d, nil, c.ask)
}

func (c *client) ask() {
	if c.open {
		return
	}
	w := c.w
	c.number++
	c.open = true
	op := opKind(w.rng.intn(3))
	if op == opSync && !w.rng.permille(w.s.syncs) {
		op = opAdd
	}
	r := request{client: c.id, number: c.number, op: op, amount: int64(w.rng.intn(9) + 1)}
	c.past = append(c.past, operation{request: r, asked: w.now})
	w.tell(nil, "client %d asks request %d: %s", c.id, r.number, [...]string{"read", "add", "add to disk"}[op])
	c.send(r)
}

// send sends a request to wherever the group may be: frames reach every replica, and only one listens.
func (c *client) send(r request) {
	if !c.open || c.number != r.number {
		return
	}
	w := c.w
	data := r.bytes()
	for _, p := range w.members {
		if p == nil || p.dead || w.now < c.cut || w.rng.permille(w.s.clientLoss) {
			continue
		}
		w.plan(w.clientDelay(), p, func() { p.hear(data) })
	}
	w.plan(w.rng.between(20*time.Millisecond, 60*time.Millisecond), nil, func() { c.send(r) })
}

func (w *World) answer(p *process, a answer) {
	c := w.clients[a.client]
	if w.now < c.cut || w.rng.permille(w.s.clientLoss) {
		return
	}
	w.plan(w.clientDelay(), nil, func() { c.got(a) })
}

func (c *client) got(a answer) {
	if !c.open || a.request != c.number {
		return
	}
	w := c.w
	op := &c.past[len(c.past)-1]
	op.answer, op.got, op.done = a, w.now, true
	c.open = false
	w.tell(nil, "client %d has the answer to request %d: %d", c.id, a.request, a.value)
	if w.healed > 0 && op.asked >= w.healed {
		c.after++
	}
	c.think()
}

func (w *World) clientDelay() time.Duration {
	return w.rng.between(50*time.Microsecond, 2*time.Millisecond)
}
