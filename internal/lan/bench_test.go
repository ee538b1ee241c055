package lan

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// One request at a time: client socket, forward, gateway TCP, switch, cable, guest, and back.
func BenchmarkForwardRoundTrip(b *testing.B) {
	l, addr := startLAN(b, Config{})
	joinGuest(b, addr, guestMAC, guestIP).listen(b, 7, echo)
	c := dialHost(b, forwardTo(b, l, 7))
	_ = c.SetDeadline(time.Time{})
	msg, buf := make([]byte, 64), make([]byte, 64)
	for b.Loop() {
		if _, err := c.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rtt/s")
}

// The switch and two cables alone: one frame there and back.
func BenchmarkSwitchRoundTrip(b *testing.B) {
	_, addr := startLAN(b, Config{})
	there := ethernet(otherMAC, guestMAC, 0x88b5, make([]byte, 60))
	back := ethernet(guestMAC, otherMAC, 0x88b5, make([]byte, 60))
	self := make(chan *Port, 1)
	echo := dialPort(b, Dialer{Handler: func(f []byte) {
		if bytes.Equal(f, there) {
			p := <-self
			p.Send(back)
			self <- p
		}
	}}, addr)
	self <- echo
	p := dialPort(b, Dialer{}, addr)
	echo.Send(back)
	for { // until the echo's port has joined
		p.Send(there)
		select {
		case <-p.Frames():
		case <-time.After(10 * time.Millisecond):
			continue
		}
		break
	}
	for b.Loop() {
		p.Send(there)
		<-p.Frames()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rtt/s")
}

// A client uploading to a guest as fast as it goes.
func BenchmarkForwardThroughput(b *testing.B) {
	for name, mtu := range map[string]int{"mtu=1500": 1500, "mtu=65000": 65000} {
		b.Run(name, func(b *testing.B) {
			l, addr := startLAN(b, Config{MTU: mtu})
			g := newGuest(b, guestMAC, netip.MustParseAddr("192.168.127.2"))
			g.link.mtu = uint32(mtu)
			g.port.Store(g.plug(b, addr))
			g.listen(b, 7, func(c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() })
			c := dialHost(b, forwardTo(b, l, 7))
			_ = c.SetDeadline(time.Time{})
			chunk := make([]byte, 256<<10)
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				if _, err := c.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		})
	}
}
