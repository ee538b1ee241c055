package virtio

import (
	"bytes"
	"testing"

	"understudy/event"
)

func TestConsole(t *testing.T) {
	d := newDriver(t, testConsole)
	c := d.m.dev.(*Console)
	c.Receive([]byte("typed early "))
	d.init(allFeatures)
	head, a := d.add(consoleRx, false, in(4), in(60))
	if !d.kick(consoleRx) {
		t.Error("no kick wanted while bytes wait")
	}
	if d.interrupted() != isrUsed || d.one(consoleRx, head) != 12 {
		t.Error("early bytes did not arrive")
	}
	if got := append(d.bytes(a[0], 4), d.bytes(a[1], 8)...); string(got) != "typed early " {
		t.Errorf("got %q", got)
	}
	// One buffer takes one piece of input, the rest waits.
	head, _ = d.add(consoleRx, false, in(4))
	if d.kick(consoleRx) {
		t.Error("kick wanted while nothing waits")
	}
	c.Receive([]byte("pasted"))
	if d.one(consoleRx, head) != 4 {
		t.Error("no piece arrived")
	}
	head, a = d.add(consoleRx, true, in(100))
	if !d.kick(consoleRx) || d.one(consoleRx, head) != 2 || string(d.bytes(a[0], 2)) != "ed" {
		t.Error("the rest did not arrive")
	}
	// The bound.
	c.Receive(make([]byte, ConsoleBacklog-1))
	c.Receive([]byte("abc"))
	if c.Dropped() != 2 || len(c.backlog) != ConsoleBacklog {
		t.Errorf("dropped %d", c.Dropped())
	}

	head, _ = d.add(consoleTx, false, out([]byte("Hello, ")), out([]byte("world")))
	d.kick(consoleTx)
	o := d.take()
	if len(o) != 1 || o[0].Kind != event.OutConsole || o[0].Device != 3 || string(o[0].Data) != "Hello, world" {
		t.Errorf("outputs %v", o)
	}
	d.one(consoleTx, head)
}

func TestEntropy(t *testing.T) {
	d := newDriver(t, testEntropy)
	r := d.m.dev.(*Entropy)
	d.init(allFeatures)
	r.Provide([]byte("nobody asked"))
	h1, a1 := d.add(0, false, in(10), in(54))
	h2, a2 := d.add(0, true, in(4000))
	h3, _ := d.add(0, false, in(1))
	d.kick(0)
	o := d.take()
	if len(o) != 3 || o[0].Kind != event.OutEntropy || o[0].Want != 64 || o[1].Want != MaxEntropy || o[2].Want != 1 {
		t.Fatalf("outputs %v", o)
	}
	d.swap(testEntropy(d))
	r = d.m.dev.(*Entropy)
	if p := r.Pending(); len(p) != 3 || p[0] != 64 || p[1] != MaxEntropy {
		t.Errorf("pending %v", p)
	}
	r.Provide(nil)
	bytes64 := frame(64, 5)
	r.Provide(bytes64)
	if d.interrupted() != isrUsed || d.one(0, h1) != 64 {
		t.Error("first request")
	}
	if got := append(d.bytes(a1[0], 10), d.bytes(a1[1], 54)...); !bytes.Equal(got, bytes64) {
		t.Error("bytes differ")
	}
	r.Provide(frame(100, 6)) // fewer than asked for
	if d.one(0, h2) != 100 || !bytes.Equal(d.bytes(a2[0], 101), append(frame(100, 6), 0)) {
		t.Error("second request")
	}
	r.Provide(frame(100, 7)) // more than asked for
	if d.one(0, h3) != 1 || r.Pending() != nil {
		t.Error("third request")
	}
	// A reset forgets.
	d.add(0, false, in(8))
	d.kick(0)
	d.init(allFeatures)
	if r.Pending() != nil {
		t.Error("a request survived the reset")
	}
	// More requests than places.
	for i := 0; i < 2*entropyQueue; i++ {
		d.post(0, 0)
		d.poke(d.q[0].desc, appendDesc(nil, d.q[0].desc, 8, descWrite, 0))
		d.write(regQueueNotify, 0)
	}
	if len(r.waiting) > entropyQueue || d.read(regStatus)&statusNeedsReset == 0 {
		t.Errorf("%d requests wait", len(r.waiting))
	}
}
