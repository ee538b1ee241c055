package virtio

import (
	"bytes"
	"testing"

	"understudy/event"
)

func frame(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i)*7 + seed
	}
	return p
}

func TestNetTransmit(t *testing.T) {
	for _, indirect := range []bool{false, true} {
		d := newDriver(t, testNet)
		d.init(allFeatures)
		f := frame(1514, 1)
		head, _ := d.add(netTx, indirect, out(make([]byte, netHeaderBytes)), out(f[:100]), out(f[100:]))
		d.kick(netTx)
		o := d.take()
		if len(o) != 1 || o[0].Kind != event.OutNet || o[0].Device != 3 || !bytes.Equal(o[0].Data, f) {
			t.Fatalf("indirect %v: outputs %v", indirect, o)
		}
		if d.interrupted() != isrUsed || d.one(netTx, head) != 0 {
			t.Error("not returned")
		}
		// A header and frame in one piece; a runt; one that is too long; the longest.
		d.add(netTx, indirect, out(make([]byte, netHeaderBytes+MinFrameBytes)))
		d.add(netTx, indirect, out(make([]byte, netHeaderBytes+MinFrameBytes-1)))
		d.add(netTx, indirect, out(make([]byte, 3)))
		d.add(netTx, indirect, out(make([]byte, netHeaderBytes+MaxFrameBytes+1)))
		d.add(netTx, indirect, out(make([]byte, netHeaderBytes+MaxFrameBytes)))
		d.kick(netTx)
		o = d.take()
		if len(o) != 2 || len(o[0].Data) != MinFrameBytes || len(o[1].Data) != MaxFrameBytes {
			t.Errorf("%d outputs", len(o))
		}
		if u := d.collect(netTx); len(u) != 5 {
			t.Errorf("%d of 5 returned", len(u))
		}
	}
}

func TestNetReceive(t *testing.T) {
	for _, features := range []uint64{0, featEventIdx, allFeatures} {
		d := newDriver(t, testNet)
		n := d.m.dev.(*Net)
		n.Receive(frame(60, 0)) // nobody listens
		if n.Dropped() != 1 {
			t.Fatal("a frame was taken before the driver runs")
		}
		d.init(features)
		const room = netHeaderBytes + 1518
		head, addrs := d.add(netRx, features&featIndirect != 0, in(netHeaderBytes), in(100), in(room-netHeaderBytes-100))
		if d.kick(netRx) {
			t.Error("the device wants kicks while nothing waits")
		}
		f := frame(1514, 9)
		n.Receive(f)
		if d.interrupted() != isrUsed || d.one(netRx, head) != netHeaderBytes+1514 {
			t.Error("frame did not arrive")
		}
		if h := d.bytes(addrs[0], netHeaderBytes); !bytes.Equal(h, []byte{10: 1, 11: 0}) {
			t.Errorf("header %x", h)
		}
		got := append(d.bytes(addrs[1], 100), d.bytes(addrs[2], 1414)...)
		if !bytes.Equal(got, f) {
			t.Error("frame differs")
		}

		// No buffers: frames wait in order, the newest are dropped.
		for i := 0; i < NetBacklog+5; i++ {
			n.Receive(frame(60, byte(i)))
		}
		if n.Dropped() != 1+5 {
			t.Errorf("dropped %d", n.Dropped())
		}
		seen := 0
		for seen < NetBacklog {
			var a [][]uint64
			for i := 0; i < 100; i++ {
				_, addrs := d.add(netRx, false, in(room))
				a = append(a, addrs)
			}
			kicked := d.kick(netRx)
			if !kicked {
				t.Fatal("the device wants no kick while frames wait")
			}
			for i := range d.collect(netRx) {
				if !bytes.Equal(d.bytes(a[i][0]+netHeaderBytes, 60), frame(60, byte(seen))) {
					t.Fatalf("frame %d differs", seen)
				}
				seen++
			}
		}
		if seen != NetBacklog || len(n.backlog) != 0 {
			t.Errorf("%d frames arrived", seen)
		}
	}
}

// TestNetOrder stops a driver between adding buffers and the kick: a frame that comes then stays behind those
// that wait.
func TestNetOrder(t *testing.T) {
	d := newDriver(t, testNet)
	n := d.m.dev.(*Net)
	d.init(allFeatures)
	n.Receive(frame(60, 1))
	_, a := d.add(netRx, false, in(100))
	_, b := d.add(netRx, false, in(100))
	n.Receive(frame(60, 2))
	d.kick(netRx)
	for i, addr := range []uint64{a[0], b[0]} {
		if !bytes.Equal(d.bytes(addr+netHeaderBytes, 60), frame(60, byte(i+1))) {
			t.Errorf("frame %d is not in its place", i)
		}
	}
}

func TestNetSmallBuffer(t *testing.T) {
	d := newDriver(t, testNet)
	n := d.m.dev.(*Net)
	d.init(allFeatures)
	head, _ := d.add(netRx, false, in(netHeaderBytes+100))
	n.Receive(frame(101, 0))
	if n.Dropped() != 1 || len(d.collect(netRx)) != 0 {
		t.Error("frame larger than the buffer")
	}
	n.Receive(frame(100, 0)) // the buffer is still there
	if d.one(netRx, head) != netHeaderBytes+100 {
		t.Error("the buffer was lost")
	}
	n.Receive(frame(MinFrameBytes-1, 0))
	n.Receive(frame(MaxFrameBytes+1, 0))
	if n.Dropped() != 3 {
		t.Errorf("dropped %d", n.Dropped())
	}
}

func TestNetReceiveDoesNotAllocate(t *testing.T) {
	d := newDriver(t, testNet)
	n := d.m.dev.(*Net)
	d.init(allFeatures)
	d.add(netRx, false, in(2000))
	f := frame(1514, 0)
	n.Receive(f)
	if a := testing.AllocsPerRun(200, func() { d.post(netRx, 0); n.Receive(f) }); a > 4 { // post itself makes some
		t.Errorf("%v allocations", a)
	}
}

func BenchmarkNetReceive(b *testing.B) {
	d := newDriver(b, testNet)
	n := d.m.dev.(*Net)
	d.init(allFeatures)
	d.add(netRx, false, in(2000))
	f := frame(1514, 0)
	q := d.q[netRx]
	n.Receive(f)
	b.ReportAllocs()
	b.SetBytes(1514)
	for b.Loop() {
		q.avail++
		d.m.write16(q.driver+2, q.avail)
		n.Receive(f)
	}
}
