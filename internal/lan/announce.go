package lan

import (
	"encoding/binary"
	"net/netip"
)

const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeRARP = 0x8035
	minOnWire     = 60 // bytes of the shortest frame that Ethernet carries, without its check sequence
)

var broadcastMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// GratuitousARP returns a broadcast frame in which mac announces that it has the IPv4 address ip (RFC 5227
// section 3, an ARP announcement): switches learn the port, neighbours the address. ip must be IPv4.
func GratuitousARP(mac [6]byte, ip netip.Addr) []byte {
	a := ip.Unmap().As4()
	return arpFrame(etherTypeARP, 1, mac, a, [6]byte{}, a)
}

// Announce returns a broadcast frame from mac that says nothing but where it is: a reverse ARP request
// (RFC 903), as virtual machine monitors send it after a migration when they do not know the guest's IP
// address. Switches learn the port; hosts ignore it.
func Announce(mac [6]byte) []byte {
	return arpFrame(etherTypeRARP, 3, mac, [4]byte{}, mac, [4]byte{})
}

func arpFrame(etherType, op uint16, sender [6]byte, senderIP [4]byte, target [6]byte, targetIP [4]byte) []byte {
	f := make([]byte, 0, minOnWire)
	f = append(f, broadcastMAC[:]...)
	f = append(f, sender[:]...)
	f = binary.BigEndian.AppendUint16(f, etherType)
	f = binary.BigEndian.AppendUint16(f, 1) // hardware: Ethernet
	f = binary.BigEndian.AppendUint16(f, etherTypeIPv4)
	f = append(f, 6, 4) // address lengths
	f = binary.BigEndian.AppendUint16(f, op)
	f = append(f, sender[:]...)
	f = append(f, senderIP[:]...)
	f = append(f, target[:]...)
	f = append(f, targetIP[:]...)
	return f[:minOnWire]
}

// arpSender returns who sent an ARP frame and the IPv4 address it claims; ok is false for any other frame.
func arpSender(frame []byte) (mac [6]byte, ip netip.Addr, ok bool) {
	if len(frame) < MinFrame+28 || binary.BigEndian.Uint16(frame[12:]) != etherTypeARP {
		return mac, ip, false
	}
	a := frame[MinFrame:]
	if binary.BigEndian.Uint16(a) != 1 || binary.BigEndian.Uint16(a[2:]) != etherTypeIPv4 || a[4] != 6 || a[5] != 4 {
		return mac, ip, false
	}
	copy(mac[:], a[8:14])
	return mac, netip.AddrFrom4([4]byte(a[14:18])), true
}
