package lan

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxMACsPerPort bounds what one port can make the switch remember. Frames for a MAC beyond it are
	// flooded, which is slower and still right.
	maxMACsPerPort = 64
	// maxPorts bounds the ports of one switch.
	maxPorts = 256
)

// swPort is one port of the switch: deliver takes a frame without waiting. The frame is only valid during
// the call.
type swPort struct {
	id      int
	name    string
	deliver func(frame []byte)
	macs    int                // entries of the table that point here; guarded by etherSwitch.mu
	views   map[[6]byte]uint64 // the highest view it has announced for each address; guarded by etherSwitch.mu
	// speaking is held while a frame of this port passes the switch. The gateway, which no view concerns, does
	// without: it answers while a frame is handed to it.
	speaking sync.Mutex
}

// etherSwitch is a learning Ethernet switch. A frame moves its sender's MAC to the port it came from at
// once; a frame for a MAC that no port has is flooded. forward never blocks as long as no port's deliver
// does.
type etherSwitch struct {
	log    *slog.Logger
	pcap   *pcapWriter // nil: no capture
	ownMAC [6]byte     // the gateway's: no other port may use it

	// mu is never held while a frame is delivered: the gateway answers in the goroutine that brings it one.
	mu     sync.RWMutex
	table  map[[6]byte]*swPort
	views  map[[6]byte]uint64 // the highest view announced for each address
	ports  []*swPort          // replaced, never changed in place
	nextID int

	onView func(mac [6]byte, view uint64) // nil: nobody wants to know

	frames, floods, moves, rejected, fenced atomic.Uint64
	logged                                  logLimiter
}

func newSwitch(log *slog.Logger, ownMAC [6]byte, pcap *pcapWriter) *etherSwitch {
	return &etherSwitch{log: log, ownMAC: ownMAC, pcap: pcap, table: make(map[[6]byte]*swPort), views: make(map[[6]byte]uint64)}
}

// add plugs a port in.
func (s *etherSwitch) add(name string, deliver func([]byte)) (*swPort, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ports) >= maxPorts {
		return nil, fmt.Errorf("switch has %d ports already", maxPorts)
	}
	p := &swPort{id: s.nextID, name: name, deliver: deliver}
	s.nextID++
	s.ports = append(slices.Clone(s.ports), p)
	return p, nil
}

// remove unplugs a port. What it had is unknown from then on, so frames for it are flooded and reach a
// successor even before that has announced itself.
func (s *etherSwitch) remove(p *swPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports = slices.DeleteFunc(slices.Clone(s.ports), func(q *swPort) bool { return q == p })
	for mac, at := range s.table {
		if at == p {
			delete(s.table, mac)
		}
	}
}

// forward takes a frame of at least MinFrame bytes that came in at from.
func (s *etherSwitch) forward(from *swPort, frame []byte) {
	dst, src := [6]byte(frame[0:6]), [6]byte(frame[6:12])
	if src[0]&1 != 0 || src == s.ownMAC && from.id != gatewayPort {
		s.rejected.Add(1) // no sender has a group address, and nobody else has the gateway's
		return
	}
	s.frames.Add(1)
	if s.pcap != nil {
		s.pcap.write(frame)
	}
	if from.id != gatewayPort {
		if view, ok := announcedView(frame); ok {
			s.announce(from, view, src)
			return
		}
		from.speaking.Lock()
		defer from.speaking.Unlock()
	}
	s.mu.RLock()
	at, to, ports := s.table[src], s.table[dst], s.ports
	stale := from.views[src] < s.views[src]
	s.mu.RUnlock()
	if stale {
		s.fenced.Add(1)
		return
	}
	if at != from {
		s.learn(from, src)
	}
	if to != nil {
		if to != from {
			to.deliver(frame)
		}
		return
	}
	if dst[0]&1 == 0 {
		s.floods.Add(1)
	}
	for _, to := range ports {
		if to != from {
			to.deliver(frame)
		}
	}
}

func (s *etherSwitch) learn(from *swPort, mac [6]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.table[mac]
	if old == from || from.views[mac] < s.views[mac] || !slices.Contains(s.ports, from) {
		return
	}
	if old != nil {
		old.macs--
		delete(s.table, mac)
	}
	if from.macs >= maxMACsPerPort {
		return
	}
	from.macs++
	s.table[mac] = from
	if old == nil {
		if s.logged.allow() {
			s.log.Info("address joined", "mac", macString(mac), "port", from.name)
		}
		return
	}
	s.moves.Add(1)
	if s.logged.allow() {
		s.log.Info("address moved", "mac", macString(mac), "from", old.name, "to", from.name)
	}
}

// portOf says where a MAC is, for tests and Stats.
func (s *etherSwitch) portOf(mac [6]byte) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p := s.table[mac]; p != nil {
		return p.name
	}
	return ""
}

func macString(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}
