package lan

// Stats are counters since New, and gauges.
type Stats struct {
	Ports         int    `json:"ports"`         // joined now, without the gateway
	Frames        uint64 `json:"frames"`        // that entered the switch
	Floods        uint64 `json:"floods"`        // unicast frames sent to all ports, their address being unknown
	Moves         uint64 `json:"moves"`         // times that a MAC moved to another port
	Rejected      uint64 `json:"rejected"`      // frames with a group address or the gateway's as their source, announcements that make no sense
	Fenced        uint64 `json:"fenced"`        // frames of a sender whose view is over
	Refused       uint64 `json:"refused"`       // peers without a valid certificate
	Dropped       uint64 `json:"dropped"`       // frames that a port was too slow to take
	FramingErrors uint64 `json:"framingErrors"` // ports unplugged because of a bad length

	Conns       int    `json:"conns"`       // forwarded connections open now
	ConnsTotal  uint64 `json:"connsTotal"`  // accepted
	ConnsFailed uint64 `json:"connsFailed"` // that found no guest, or the limit reached

	TCPRetransmits uint64 `json:"tcpRetransmits"` // segments that the gateway sent again
	TCPTimeouts    uint64 `json:"tcpTimeouts"`    // retransmission timers that ran out
	TCPGivenUp     uint64 `json:"tcpGivenUp"`     // connections given up because the guest did not acknowledge
}

// Stats returns the LAN's counters.
func (l *LAN) Stats() Stats {
	s := Stats{
		Frames:        l.sw.frames.Load(),
		Floods:        l.sw.floods.Load(),
		Moves:         l.sw.moves.Load(),
		Rejected:      l.sw.rejected.Load(),
		Fenced:        l.sw.fenced.Load(),
		Refused:       l.refused.Load(),
		Dropped:       l.cableDropped.Load(),
		FramingErrors: l.framingErrors.Load(),
		Conns:         len(l.conns),
		ConnsTotal:    l.connsTotal.Load(),
		ConnsFailed:   l.connsFailed.Load(),
	}
	l.mu.Lock()
	s.Ports = len(l.cables)
	for c := range l.cables {
		s.Dropped += c.queue.dropped.Load()
	}
	l.mu.Unlock()
	t := l.gw.stack.Stats().TCP
	s.TCPRetransmits = t.Retransmits.Value()
	s.TCPTimeouts = t.Timeouts.Value()
	s.TCPGivenUp = t.EstablishedTimedout.Value()
	return s
}
