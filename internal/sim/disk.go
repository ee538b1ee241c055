package sim

import "time"

// disk is a process's own copy of the disk.
type disk struct{ open []diskRequest }

type diskRequest struct {
	id   uint32
	done time.Duration
}

// submit takes the machine's requests.
func (d *disk) submit(w *World, p *process) {
	for _, id := range p.m.disk {
		lo, hi := 100*time.Microsecond, 3*time.Millisecond
		if w.now < w.slowDisk[p.slot] {
			hi = 200 * time.Millisecond
		}
		d.open = append(d.open, diskRequest{id, w.now + w.rng.between(lo, hi)})
	}
	p.m.disk = p.m.disk[:0]
}

// finished takes the requests that are done.
func (d *disk) finished(now time.Duration) []uint32 {
	var ids []uint32
	rest := d.open[:0]
	for _, r := range d.open {
		if r.done <= now {
			ids = append(ids, r.id)
		} else {
			rest = append(rest, r)
		}
	}
	d.open = rest
	return ids
}

// await takes one request if it is done.
func (d *disk) await(now time.Duration, id uint32) bool {
	for i, r := range d.open {
		if r.id == id && r.done <= now {
			d.open = append(d.open[:i], d.open[i+1:]...)
			return true
		}
	}
	return false
}
