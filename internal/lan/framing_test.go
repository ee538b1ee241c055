package lan

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"testing"
)

func TestAnnouncementsOnTheWire(t *testing.T) {
	mac := [6]byte{0x52, 0x54, 0, 0xaa, 0xbb, 0xcc}
	for name, c := range map[string]struct {
		frame []byte
		want  string
	}{
		"ARP": {
			GratuitousARP(mac, netip.MustParseAddr("192.168.127.2")),
			"ffffffffffff525400aabbcc0806" + "0001080006040001" + "525400aabbcc" + "c0a87f02" + "000000000000" + "c0a87f02",
		},
		"RARP": {
			Announce(mac),
			"ffffffffffff525400aabbcc8035" + "0001080006040003" + "525400aabbcc" + "00000000" + "525400aabbcc" + "00000000",
		},
	} {
		want, _ := hex.DecodeString(c.want)
		want = append(want, make([]byte, minOnWire-len(want))...)
		if !bytes.Equal(c.frame, want) {
			t.Errorf("%s: % x, want % x", name, c.frame, want)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(AppendFrame(nil, make([]byte, MinFrame)))
	f.Add(AppendFrame(AppendFrame(nil, make([]byte, 60)), make([]byte, MaxFrame)))
	f.Add([]byte{0, 1, 0, 0x0f})
	f.Add([]byte{0, 0, 0, 13, 1, 2})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(stream), 16)
		buf := make([]byte, MaxFrame)
		var again []byte
		for {
			frame, err := ReadFrame(r, buf)
			if err != nil {
				rest := stream[len(again):]
				var bad *FramingError
				switch {
				case err == io.EOF && len(rest) == 0, errors.Is(err, io.ErrUnexpectedEOF) && len(rest) > 0:
				case errors.As(err, &bad) && len(rest) >= 4 && (bad.Length < MinFrame || bad.Length > MaxFrame):
				default:
					t.Fatalf("%v with %d bytes left", err, len(rest))
				}
				return
			}
			again = AppendFrame(again, frame)
			if !bytes.HasPrefix(stream, again) {
				t.Fatal("what was read is not what was sent")
			}
		}
	})
}

// Frames of a hostile guest meet the switch and the whole gateway: whatever they hold, nothing may panic.
func FuzzGateway(f *testing.F) {
	f.Add(GratuitousARP(guestMAC, guestIP))
	f.Add(ethernet(broadcastMAC, guestMAC, etherTypeIPv4, udp4(netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67"), make([]byte, 300))))
	f.Add(ethernet([6]byte{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xdd}, guestMAC, etherTypeIPv4, ip4(6, guestIP, gatewayIP, make([]byte, 20))))
	f.Add(ethernet([6]byte{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xdd}, guestMAC, etherTypeIPv4, udp4(netip.AddrPortFrom(guestIP, 9), netip.AddrPortFrom(gatewayIP, 53), []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0})))
	l, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	port, err := l.sw.add("fuzz", func([]byte) {})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < MinFrame || len(frame) > MaxFrame {
			return
		}
		l.sw.forward(port, frame)
		if len(frame) > 42 {
			l.gw.dhcp.answer(frame[42:])
		}
	})
}
