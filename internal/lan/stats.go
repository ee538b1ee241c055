package lan

// Stats are counters since New, and gauges.
type Stats struct {
	Ports         int    // joined now, without the gateway
	Frames        uint64 // that entered the switch
	Floods        uint64 // unicast frames sent to all ports, their address being unknown
	Moves         uint64 // times that a MAC moved to another port
	Rejected      uint64 // frames with a group address or the gateway's as their source
	Dropped       uint64 // frames that a port was too slow to take
	FramingErrors uint64 // ports unplugged because of a bad length

	Conns       int    // forwarded connections open now
	ConnsTotal  uint64 // accepted
	ConnsFailed uint64 // that found no guest, or the limit reached

	TCPRetransmits uint64 // segments that the gateway sent again
	TCPTimeouts    uint64 // retransmission timers that ran out
	TCPGivenUp     uint64 // connections given up because the guest did not acknowledge
}

// Stats returns the LAN's counters.
func (l *LAN) Stats() Stats {
	s := Stats{
		Frames:        l.sw.frames.Load(),
		Floods:        l.sw.floods.Load(),
		Moves:         l.sw.moves.Load(),
		Rejected:      l.sw.rejected.Load(),
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
