package lan

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
)

// An announcement of a view is an Ethernet frame of its own kind:
//
//	0   6  destination: viewGroup
//	6   6  source: the MAC address that is announced
//	12  2  EtherType 0x88B5, IEEE 802's first for local experiments
//	14  16 viewMagic
//	30  8  the view's number, big endian
//	38     zeros up to 60 bytes
//
// A bridge by IEEE 802.1D (table 7-10) learns the source and never passes the frame on.
const (
	etherTypeLocal = 0x88b5
	viewMagic      = "understudy/view1"
	viewFrameBytes = minOnWire
)

// viewGroup is the address of whatever bridge is nearest.
var viewGroup = [6]byte{0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e}

const (
	// maxViews bounds the addresses whose views a switch remembers, and maxPortViews those that one port
	// announces.
	maxViews     = 1024
	maxPortViews = 16
)

// viewFrame announces that its sender speaks for mac in that view.
func viewFrame(view uint64, mac [6]byte) []byte {
	f := make([]byte, 0, viewFrameBytes)
	f = append(f, viewGroup[:]...)
	f = append(f, mac[:]...)
	f = binary.BigEndian.AppendUint16(f, etherTypeLocal)
	f = append(f, viewMagic...)
	f = binary.BigEndian.AppendUint64(f, view)
	return f[:viewFrameBytes]
}

// announcedView returns the view that a frame announces for its source address; ok is false for any other
// frame.
func announcedView(frame []byte) (view uint64, ok bool) {
	const numberAt = MinFrame + len(viewMagic)
	if len(frame) < numberAt+8 || [6]byte(frame[:6]) != viewGroup || binary.BigEndian.Uint16(frame[12:]) != etherTypeLocal ||
		!bytes.Equal(frame[MinFrame:numberAt], []byte(viewMagic)) {
		return 0, false
	}
	return binary.BigEndian.Uint64(frame[numberAt:]), true
}

// announce takes note that the port speaks for mac in that view. When it returns, no frame of an older view is
// under way between the switch's ports.
func (s *etherSwitch) announce(from *swPort, view uint64, mac [6]byte) {
	s.mu.Lock()
	known, fenced := s.views[mac]
	_, mine := from.views[mac]
	if view == 0 || !slices.Contains(s.ports, from) || !fenced && len(s.views) >= maxViews || !mine && len(from.views) >= maxPortViews {
		s.mu.Unlock()
		s.rejected.Add(1)
		return
	}
	if from.views == nil {
		from.views = make(map[[6]byte]uint64)
	}
	from.views[mac] = max(from.views[mac], view)
	if view > known {
		s.views[mac] = view
	}
	others := s.ports
	s.mu.Unlock()
	switch {
	case view < known:
		if s.logged.allow() {
			s.log.Warn("an older view speaks, its frames are dropped; if the group began anew, so must its LAN",
				"mac", macString(mac), "port", from.name, "view", view, "highest", known)
		}
		return
	case view > known:
		if s.logged.allow() {
			s.log.Info("view announced", "mac", macString(mac), "port", from.name, "view", view)
		}
		// A frame that was let through before the new view was known is delivered before announce returns.
		for _, p := range others {
			if p != from {
				p.hearOut()
			}
		}
		if s.onView != nil {
			s.onView(mac, view)
		}
	}
	s.learn(from, mac)
}

// hearOut waits until the frame that the port is sending, if any, has been delivered.
func (p *swPort) hearOut() {
	p.speaking.Lock()
	defer p.speaking.Unlock()
}

// Views returns the highest view announced for each address.
func (l *LAN) Views() map[[6]byte]uint64 {
	l.sw.mu.RLock()
	defer l.sw.mu.RUnlock()
	return maps.Clone(l.sw.views)
}
