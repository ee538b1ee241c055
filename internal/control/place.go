package control

import (
	"slices"
	"strings"
)

// place decides which hosts are to run a replica of a machine. It changes Founder and Hosts.
//
// Before view 1 only the founder gets the machine: whoever pings first becomes primary, and two that boot would race.
// From view 1 on: the hosts that the view names, whatever became of them, for only a view takes a part away; then those
// that have it already; then those with the most free memory.
func place(m *machine, hosts []*candidate) {
	if !m.live() {
		return
	}
	byName := map[string]*candidate{}
	for _, h := range hosts {
		byName[h.name] = h
	}
	fits := func(h *candidate) bool { return h.mem == 0 || h.free >= m.mem() }
	slices.SortFunc(hosts, func(a, b *candidate) int {
		switch {
		case a.free > b.free:
			return -1
		case a.free < b.free:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	if m.view.Number == 0 && !m.Founded {
		placeFounder(m, hosts, byName, fits)
		return
	}
	var chosen []string
	alive := 0
	for _, n := range []string{m.view.Primary, m.view.Backup} {
		if n == "" || slices.Contains(chosen, n) {
			continue
		}
		chosen = append(chosen, n)
		if h := byName[n]; h != nil && h.ready && !h.draining {
			alive++
		}
	}
	want := m.want()
	add := func(h *candidate) {
		if (want < 0 || alive < want) && h.ready && !h.draining && !slices.Contains(chosen, h.name) {
			chosen = append(chosen, h.name)
			alive++
		}
	}
	for _, n := range m.Hosts {
		if h := byName[n]; h != nil {
			add(h)
		}
	}
	for _, h := range hosts {
		if fits(h) {
			add(h)
		}
	}
	m.setHosts(chosen)
}

func placeFounder(m *machine, hosts []*candidate, byName map[string]*candidate, fits func(*candidate) bool) {
	usable := func(h *candidate) bool { return h != nil && h.ready && !h.draining && m.refused[h.name] == "" }
	if usable(byName[m.Founder]) {
		m.setHosts([]string{m.Founder})
		return
	}
	founder := ""
	if m.Last != "" {
		// A machine that was stopped: its newest disks are there and nowhere else.
		if usable(byName[m.Last]) {
			founder = m.Last
		}
	} else {
		for _, h := range hosts {
			if usable(h) && fits(h) {
				founder = h.name
				break
			}
		}
	}
	if founder != m.Founder {
		m.Founder, m.dirty = founder, true
	}
	switch {
	case founder != "":
		m.setHosts([]string{founder})
	case m.Last != "":
		m.setHosts([]string{m.Last}) // its files stay until it is back
	default:
		m.setHosts(nil)
	}
}

func (m *machine) setHosts(hosts []string) {
	if !slices.Equal(m.Hosts, hosts) {
		m.Hosts, m.dirty = hosts, true
	}
}

// candidate is a host as placement sees it.
type candidate struct {
	name            string
	ready, draining bool
	mem, free       uint64 // bytes; mem 0: not known, and no limit
}
