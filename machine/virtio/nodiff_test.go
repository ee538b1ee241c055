package virtio

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"understudy/event"
)

// TestNoDiff runs the same random history on a device that stays and on one that is replaced, now and then, by
// a new one which loads its state: guest memory, outputs, the interrupt line and the state never differ.
func TestNoDiff(t *testing.T) {
	for kind, backend := range backends {
		for seed := uint64(0); seed < 6; seed++ {
			run := func(swap bool) []string {
				rng := rand.New(rand.NewPCG(seed, 1))
				d := newDriver(t, backend)
				var log []string
				d.init(rng.Uint64())
				base := d.free
				for step := 0; step < 300; step++ {
					if d.free-base > 2<<20 {
						d.free = base // the ring is small: old buffers are long done with
					}
					randomStep(d, rng)
					if roll := rng.IntN(4); roll == 0 && swap {
						d.swap(backend(d))
					}
					for _, o := range d.take() {
						s := fmt.Sprintf("%d %d %x %d", o.Kind, o.Device, o.Data, o.Want)
						if o.Disk != nil {
							s += fmt.Sprintf(" %v", *o.Disk)
						}
						log = append(log, s)
					}
					log = append(log, fmt.Sprintf("%v %x", d.level, d.save()))
				}
				return append(log, fmt.Sprintf("%x", d.ram.Bytes()[:d.free-0x8000_0000]))
			}
			a, b := run(false), run(true)
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Fatalf("device %d, seed %d: record %d differs:\n%.300s\n%.300s", kind, seed, i, a[i], b[i])
				}
			}
			if len(a) != len(b) {
				t.Fatalf("device %d, seed %d: %d and %d records", kind, seed, len(a), len(b))
			}
		}
	}
}

// randomStep does one thing that a driver or the world would do.
func randomStep(d *driver, rng *rand.Rand) {
	indirect := d.features&featIndirect != 0 && rng.IntN(2) == 0
	payload := bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(600))
	if rng.IntN(100) == 0 {
		d.init(rng.Uint64())
	}
	switch roll := rng.IntN(6); b := d.m.dev.(type) {
	case *Net:
		switch {
		case roll < 2:
			d.add(netTx, indirect, out(make([]byte, netHeaderBytes)), out(payload))
			d.kick(netTx)
		case roll == 2:
			d.add(netRx, indirect, in(700))
			d.kick(netRx)
		default:
			b.Receive(payload)
		}
	case *Console:
		switch {
		case roll < 2:
			d.add(consoleTx, indirect, out(payload))
			d.kick(consoleTx)
		case roll == 2:
			d.add(consoleRx, indirect, in(900))
			d.kick(consoleRx)
		default:
			b.Receive(payload)
		}
	case *Entropy:
		if roll < 3 && len(b.waiting) < 16 {
			d.add(0, indirect, in(len(payload)))
			d.kick(0)
		} else {
			b.Provide(payload)
		}
	case *Block:
		pending := b.Pending()
		switch {
		case roll < 2 && len(pending) < 20:
			d.add(0, indirect, out(blkHeader(typeOut, rng.Uint64N(1<<21))), out(make([]byte, 512*(1+rng.IntN(4)))), in(1))
			d.kick(0)
		case roll == 2 && len(pending) < 20:
			d.add(0, indirect, out(blkHeader(typeIn, rng.Uint64N(1<<21))), in(512*(1+rng.IntN(4))), in(1))
			d.kick(0)
		case len(pending) > 0:
			r := pending[rng.IntN(len(pending))]
			done := event.DiskDone{ID: r.ID}
			if r.Op == event.DiskRead {
				done.Data = bytes.Repeat([]byte{byte(roll)}, int(r.Count)*SectorBytes)
			}
			if err := b.Complete(done); err != nil {
				d.t.Fatal(err)
			}
		}
	}
	for q := range d.q {
		if rng.IntN(2) == 0 {
			d.collect(q)
		}
	}
	if rng.IntN(2) == 0 {
		d.interrupted()
	}
}
