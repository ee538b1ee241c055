package lan

import (
	"bytes"
	"context"
	"encoding/hex"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// marked makes a broadcast frame with a text to know it by.
func marked(src [6]byte, text string) []byte {
	return ethernet(broadcastMAC, src, 0x88b6, append([]byte(text), make([]byte, 50)...))
}

// plain is a foreign tool's cable: a socket and framing, nothing of this package's Port.
func plain(t *testing.T, addr string) func(frames ...[]byte) {
	c := dialHost(t, addr)
	return func(frames ...[]byte) {
		t.Helper()
		var b []byte
		for _, f := range frames {
			b = AppendFrame(b, f)
		}
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
}

// heard returns what came before the frame marked end.
func heard(t *testing.T, p *Port, end string) (texts []string) {
	t.Helper()
	nextFrame(t, p, end, func(f []byte) bool {
		if f[12] != 0x88 {
			return false
		}
		text := string(bytes.TrimRight(f[MinFrame:], "\x00"))
		if text != end {
			texts = append(texts, text)
		}
		return text == end
	})
	return texts
}

// joined waits until frames of the port reach the listener, and the other way round.
func joined(t *testing.T, l *LAN, ports int) {
	t.Helper()
	waitFor(t, "the ports", func() bool { return l.Stats().Ports == ports })
}

func TestDeposedPrimaryIsNotHeard(t *testing.T) {
	l, addr := startLAN(t, Config{})
	listener := dialPort(t, Dialer{}, addr)
	old, successor := dialPort(t, Dialer{}, addr), dialPort(t, Dialer{}, addr)
	joined(t, l, 3)

	old.Announce(1, guestMAC)
	old.Send(marked(guestMAC, "first"))
	old.Send(marked(otherMAC, "end 1"))
	if got := heard(t, listener, "end 1"); len(got) != 1 || got[0] != "first" {
		t.Fatalf("the primary of view 1 was heard as %q", got)
	}

	successor.Announce(2, guestMAC)
	waitFor(t, "the move", func() bool { return l.sw.portOf(guestMAC) == portName(l, 3) }) // by the announcement alone
	old.Send(marked(guestMAC, "stale"))
	old.Send(marked(otherMAC, "another address"))
	old.Announce(1, guestMAC) // as its dialer does when it joins again
	old.Send(marked(guestMAC, "stale again"))
	old.Send(marked(otherMAC, "end 2"))
	if got := heard(t, listener, "end 2"); len(got) != 1 || got[0] != "another address" {
		t.Errorf("the deposed primary was heard as %q", got)
	}
	successor.Send(marked(guestMAC, "second"))
	successor.Send(marked(guestMAC, "end 3"))
	if got := heard(t, listener, "end 3"); len(got) != 1 || got[0] != "second" {
		t.Errorf("the successor was heard as %q", got)
	}
	if s := l.Stats(); s.Fenced != 2 {
		t.Errorf("Fenced = %d, want 2", s.Fenced)
	}
	if at := l.sw.portOf(guestMAC); at != portName(l, 3) {
		t.Errorf("the address is at port %q", at)
	}
	if v := l.Views(); len(v) != 1 || v[guestMAC] != 2 {
		t.Errorf("views %v", v)
	}
	// The old side comes back in a view of its own.
	old.Announce(3, guestMAC)
	old.Send(marked(guestMAC, "end 4"))
	heard(t, listener, "end 4")
	successor.Send(marked(guestMAC, "stale"))
	successor.Send(marked(otherMAC, "end 5"))
	if got := heard(t, listener, "end 5"); len(got) != 0 {
		t.Errorf("the deposed successor was heard as %q", got)
	}
}

// portName finds a port by its number, which counts from the gateway's 0.
func portName(l *LAN, id int) string {
	l.sw.mu.RLock()
	defer l.sw.mu.RUnlock()
	for _, p := range l.sw.ports {
		if p.id == id {
			return p.name
		}
	}
	return "none"
}

func TestForeignToolSpeaksUntilItsAddressIsAnnounced(t *testing.T) {
	l, addr := startLAN(t, Config{})
	listener := dialPort(t, Dialer{}, addr)
	joined(t, l, 1)
	foreign := plain(t, addr)
	foreign(marked(guestMAC, "free"), marked(otherMAC, "end 1"))
	if got := heard(t, listener, "end 1"); len(got) != 1 {
		t.Errorf("before anybody announced: %q", got)
	}
	ours := dialPort(t, Dialer{}, addr)
	ours.Announce(1, guestMAC)
	waitFor(t, "the view", func() bool { return l.Views()[guestMAC] == 1 })
	foreign(marked(guestMAC, "no more"), marked(otherMAC, "other"), marked(otherMAC, "end 2"))
	if got := heard(t, listener, "end 2"); len(got) != 1 || got[0] != "other" {
		t.Errorf("after the announcement: %q", got)
	}
	// What is nearly an announcement is an ordinary frame.
	almost := viewFrame(9, otherMAC)
	almost[MinFrame]++
	short := viewFrame(9, otherMAC)[:MinFrame+len(viewMagic)+7]
	foreign(almost, short, marked(otherMAC, "end 3"))
	if got := heard(t, listener, "end 3"); len(got) != 2 || l.Views()[otherMAC] != 0 {
		t.Errorf("%q, views %v", got, l.Views())
	}
}

// A cable that breaks in the middle of a frame, and a side that goes on in the middle of one after its
// successor spoke: neither half reaches anybody.
func TestStoppedInTheMiddleOfAFrame(t *testing.T) {
	l, addr := startLAN(t, Config{})
	listener := dialPort(t, Dialer{}, addr)
	c := dialHost(t, addr)
	frame := AppendFrame(AppendFrame(nil, viewFrame(1, guestMAC)), marked(guestMAC, "stale"))
	frame = AppendFrame(frame, marked(otherMAC, "end"))
	at := viewFrameBytes + 4 + 20
	if _, err := c.Write(frame[:at]); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "view 1", func() bool { return l.Views()[guestMAC] == 1 })
	dialPort(t, Dialer{}, addr).Announce(2, guestMAC)
	waitFor(t, "view 2", func() bool { return l.Views()[guestMAC] == 2 })
	if _, err := c.Write(frame[at:]); err != nil {
		t.Fatal(err)
	}
	if got := heard(t, listener, "end"); len(got) != 0 {
		t.Errorf("heard %q", got)
	}
}

// A frame that was let through is delivered before the announcement takes effect, not after.
func TestAnnouncementWaitsForFramesUnderWay(t *testing.T) {
	l, _ := startLAN(t, Config{})
	entered, release := make(chan bool), make(chan bool)
	var delivered, announced atomic.Bool
	if _, err := l.sw.add("receiver", func(f []byte) {
		if f[12] == 0x88 {
			entered <- true
			<-release
			delivered.Store(true)
		}
	}); err != nil {
		t.Fatal(err)
	}
	old, _ := l.sw.add("old", func([]byte) {})
	successor, _ := l.sw.add("successor", func([]byte) {})
	sent, done := make(chan bool), make(chan bool)
	go func() { l.sw.forward(old, marked(guestMAC, "under way")); close(sent) }()
	<-entered
	go func() {
		l.sw.forward(successor, viewFrame(1, guestMAC))
		announced.Store(true)
		close(done)
	}()
	waitFor(t, "the view", func() bool { return l.Views()[guestMAC] == 1 })
	for range 20 {
		time.Sleep(time.Millisecond)
		if announced.Load() && !delivered.Load() {
			t.Fatal("the announcement took effect with a frame under way")
		}
	}
	close(release)
	<-sent
	<-done
	if at := l.sw.portOf(guestMAC); at != "successor" {
		t.Errorf("the address is at %q", at)
	}
}

func TestPortAnnouncesAgainWhenItJoinsAgain(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "lan")
	begin := func(cfg Config) *LAN {
		l, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		go l.Serve(context.Background(), ln)
		return l
	}
	var told atomic.Uint64
	l := begin(Config{OnView: func(_ [6]byte, view uint64) { told.Store(view) }})
	p, err := Dial(context.Background(), "unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Announce(3, guestMAC)
	p.Announce(2, guestMAC) // too late: the highest counts
	p.Announce(5, otherMAC)
	p.Announce(0, otherMAC)
	waitFor(t, "the views", func() bool { v := l.Views(); return v[guestMAC] == 3 && v[otherMAC] == 5 })
	if v := told.Load(); v != 5 {
		t.Errorf("OnView was told of view %d last", v)
	}
	l.Close()
	waitFor(t, "the loss to show", func() bool { return !p.Up() })
	p.Announce(4, guestMAC)

	l = begin(Config{Views: map[[6]byte]uint64{otherMAC: 7}})
	defer l.Close()
	waitFor(t, "the announcement", func() bool { return l.sw.portOf(guestMAC) != "" })
	if v := l.Views(); v[guestMAC] != 4 || v[otherMAC] != 7 || len(v) != 2 {
		t.Errorf("views %v", v)
	}
	p.Send(marked(otherMAC, "called off, and of an earlier life"))
	waitFor(t, "the drop", func() bool { return l.Stats().Fenced == 1 })
}

// A guest cannot announce anything, whatever it sends, and an announcement does not get lost in a full queue.
func TestAnnouncementsComeFromThePortAlone(t *testing.T) {
	l, addr := startLAN(t, Config{})
	p := dialPort(t, Dialer{}, addr)
	p.Send(viewFrame(1<<63, guestMAC))
	if s := p.Stats(); s.Dropped != 1 {
		t.Errorf("%+v, want a drop", s)
	}
	p.Send(marked(guestMAC, "speaks on"))
	waitFor(t, "the frame", func() bool { return l.Stats().Frames > 0 })
	if v := l.Views(); len(v) != 0 {
		t.Errorf("views %v", v)
	}

	q := newOutQueue(MaxFrame + 4)
	if !q.push(make([]byte, MaxFrame)) || q.push(make([]byte, MinFrame)) {
		t.Fatal("the queue is not full")
	}
	if !q.pushRegardless(viewFrame(1, guestMAC)) {
		t.Error("an announcement was dropped")
	}
	for _, mac := range [][6]byte{{}, broadcastMAC} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("announcing %x did not panic", mac)
				}
			}()
			p.Announce(1, mac)
		}()
	}
}

// A hostile port cannot make the switch remember without bound, nor mute the gateway.
func TestViewsAreBounded(t *testing.T) {
	l, addr := startLAN(t, Config{})
	send := plain(t, addr)
	send(viewFrame(9, l.cfg.GatewayMAC), viewFrame(0, guestMAC), viewFrame(9, broadcastMAC))
	for i := range 100 {
		send(viewFrame(9, [6]byte{2, 1, 0, 0, 0, byte(i)}))
	}
	waitFor(t, "the refusals", func() bool { return l.Stats().Rejected == 3+100-maxPortViews })
	if n := len(l.Views()); n != maxPortViews {
		t.Errorf("%d views", n)
	}
	for i := 0; len(l.Views()) < maxViews; i++ {
		p, err := l.sw.add("hostile", func([]byte) {})
		if err != nil {
			t.Fatal(err)
		}
		for j := range maxPortViews {
			l.sw.forward(p, viewFrame(1, [6]byte{2, 2, 0, 0, byte(i), byte(j)}))
		}
	}
	p, _ := l.sw.add("one more", func([]byte) {})
	l.sw.forward(p, viewFrame(1, guestMAC))
	if n := len(l.Views()); n != maxViews {
		t.Errorf("%d views", n)
	}
}

func TestViewOnTheWire(t *testing.T) {
	want, _ := hex.DecodeString("0180c200000e" + "525400000001" + "88b5" + hex.EncodeToString([]byte("understudy/view1")) + "0000000000000102")
	want = append(want, make([]byte, minOnWire-len(want))...)
	got := viewFrame(0x102, guestMAC)
	if !bytes.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
	if v, ok := announcedView(got); v != 0x102 || !ok {
		t.Errorf("read %d, %t", v, ok)
	}
}
