package lan

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestConnectionSurvivesMoveToAnotherPort(t *testing.T) {
	l, addr := startLAN(t, Config{})
	g := joinGuest(t, addr, guestMAC, guestIP)
	successor := g.plug(t, addr) // the backup's port: up, silent
	g.listen(t, 7, echo)

	c := dialHost(t, forwardTo(t, l, 7))
	if err := roundTrip(c, "before"); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	sent := make(chan error, 1)
	go func() { _, err := c.Write(data); sent <- err }()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got[:100_000]); err != nil {
		t.Fatal(err)
	}

	old := g.port.Swap(nil)
	old.Close() // the primary is gone; 300 ms until the backup goes live
	time.Sleep(300 * time.Millisecond)
	g.port.Store(successor)
	start := time.Now()
	successor.Send(GratuitousARP(guestMAC, guestIP))

	if _, err := io.ReadFull(c, got[100_000:]); err != nil {
		t.Fatal(err)
	}
	t.Logf("the rest came within %s of going live; %+v", time.Since(start), l.Stats())
	if err := <-sent; err != nil || !bytes.Equal(got, data) {
		t.Fatalf("write: %v; echo equal: %t", err, bytes.Equal(got, data))
	}
	if err := roundTrip(c, "after"); err != nil {
		t.Fatal(err)
	}
	if p := l.sw.portOf(guestMAC); !strings.HasPrefix(p, "2(") {
		t.Errorf("the guest's MAC is at port %q, want the successor's", p)
	}
}

func TestBulkTransferRecoversQuickly(t *testing.T) {
	const total, blackout = 4 << 20, 300 * time.Millisecond
	for name, serve := range map[string]func(net.Conn){
		"to the guest":   func(c net.Conn) { n, _ := io.Copy(io.Discard, c); _, _ = c.Write(make([]byte, n>>10)); c.Close() },
		"from the guest": func(c net.Conn) { _, _ = c.Write(make([]byte, total)); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			l, addr := startLAN(t, Config{})
			g := joinGuest(t, addr, guestMAC, guestIP)
			successor := g.plug(t, addr)
			g.listen(t, 7, serve)
			c := dialHost(t, forwardTo(t, l, 7))
			live := make(chan time.Time, 1)
			go func() {
				for l.Stats().Frames < 200 {
					time.Sleep(100 * time.Microsecond)
				}
				g.port.Swap(nil).Close()
				time.Sleep(blackout)
				g.port.Store(successor)
				live <- time.Now()
				successor.Send(GratuitousARP(guestMAC, guestIP))
			}()
			want := int64(total)
			if name == "to the guest" {
				want >>= 10
				_, _ = c.Write(make([]byte, total))
			}
			_ = c.CloseWrite()
			n, err := io.Copy(io.Discard, c)
			if err != nil || n != want {
				t.Fatalf("got %d bytes, %v; want %d", n, err, want)
			}
			d := time.Since(<-live)
			t.Logf("done %s after going live; %+v", d, l.Stats())
			if d > 3*time.Second {
				t.Errorf("took %s more after going live", d)
			}
		})
	}
}

func TestAddressMovesWhileTheOldPortStays(t *testing.T) {
	l, addr := startLAN(t, Config{})
	for name, announce := range map[string][]byte{"ARP": GratuitousARP(guestMAC, guestIP), "RARP": Announce(guestMAC)} {
		t.Run(name, func(t *testing.T) {
			g := joinGuest(t, addr, guestMAC, guestIP)
			old := g.port.Load()
			defer old.Close()
			successor := g.plug(t, addr)
			defer successor.Close()
			g.listen(t, 7, echo)
			c := dialHost(t, forwardTo(t, l, 7))
			if err := roundTrip(c, "before"); err != nil {
				t.Fatal(err)
			}
			moves := l.Stats().Moves
			g.port.Store(successor)
			successor.Send(announce)
			waitFor(t, "the move", func() bool { return l.Stats().Moves == moves+1 })
			if err := roundTrip(c, "after"); err != nil {
				t.Fatal(err)
			}
			g.port.Store(nil)
		})
	}
}

func TestConnectionSurvivesLongFreeze(t *testing.T) {
	freeze := 12 * time.Second
	if testing.Short() {
		freeze = 1500 * time.Millisecond
	}
	l, addr := startLAN(t, Config{})
	g := joinGuest(t, addr, guestMAC, guestIP)
	g.listen(t, 7, echo)
	c := dialHost(t, forwardTo(t, l, 7))
	if err := roundTrip(c, "before"); err != nil {
		t.Fatal(err)
	}
	p := g.port.Swap(nil)
	if _, err := io.WriteString(c, "during"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(freeze)
	start := time.Now()
	g.port.Store(p)
	b := make([]byte, 6)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "during" {
		t.Fatalf("%q, %v", b, err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("went on %s after the freeze", d)
	} else {
		t.Logf("went on %s after a freeze of %s", d, freeze)
	}
}
