package sim

import "time"

// happening is something that will happen at a moment of the world's time: to a process, which may be dead
// or stopped by then, or (p is nil) to the world.
type happening struct {
	at    time.Duration
	order uint64 // of being planned: what happens at one moment happens in this order
	p     *process
	f     func()
}

func (a *happening) before(b *happening) bool {
	return a.at < b.at || a.at == b.at && a.order < b.order
}

// queue is a heap of happenings, soonest first.
type queue struct{ h []happening }

func (q *queue) push(e happening) {
	q.h = append(q.h, e)
	i := len(q.h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !q.h[i].before(&q.h[up]) {
			break
		}
		q.h[i], q.h[up] = q.h[up], q.h[i]
		i = up
	}
}

func (q *queue) pop() (happening, bool) {
	if len(q.h) == 0 {
		return happening{}, false
	}
	top := q.h[0]
	last := len(q.h) - 1
	q.h[0] = q.h[last]
	q.h[last] = happening{}
	q.h = q.h[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && q.h[c+1].before(&q.h[c]) {
			c++
		}
		if !q.h[c].before(&q.h[i]) {
			break
		}
		q.h[i], q.h[c] = q.h[c], q.h[i]
		i = c
	}
	return top, true
}
