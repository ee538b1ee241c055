package uart

import (
	"bytes"
	"testing"

	"understudy/event"
	"understudy/machine/device"
	"understudy/machine/state"
)

var _ device.Device = (*UART)(nil)

type bench struct {
	*UART
	irq bool
	out []byte
}

func newBench() *bench {
	b := &bench{}
	b.UART = New(5, func(l bool) { b.irq = l }, func(o event.Output) {
		if o.Kind == event.OutConsole && o.Device == 5 {
			b.out = append(b.out, o.Data...)
		}
	})
	return b
}

func (b *bench) w(off uint64, v uint8) { b.WriteMMIO(off, 1, uint64(v)) }
func (b *bench) r(off uint64) uint8    { return uint8(b.ReadMMIO(off, 1)) }

// TestProbe is what Linux's 8250 driver does to find out what it has.
func TestProbe(t *testing.T) {
	b := newBench()
	b.w(regIER, 0)
	if b.r(regIER) != 0 {
		t.Error("IER")
	}
	b.w(regIER, 0xff)
	if b.r(regIER) != 0x0f {
		t.Error("IER has bits that a 16550 has not")
	}
	b.w(regIER, 0)
	b.w(regMCR, 0x10|0x0a)
	if b.r(regMSR)&0xf0 != 0x90 {
		t.Errorf("loop-back MSR %#x", b.r(regMSR))
	}
	b.w(regMCR, 0x10|0x05)
	if b.r(regMSR)&0xf0 != 0x60 {
		t.Errorf("loop-back MSR %#x", b.r(regMSR))
	}
	b.w(regMCR, 0)
	b.w(regIIR, fcrEnable)
	if b.r(regIIR)>>6 != 3 {
		t.Error("no 16550A FIFO")
	}
	b.w(regSCR, 0x5a)
	if b.r(regSCR) != 0x5a {
		t.Error("scratch register")
	}
	b.w(regLCR, lcrDLAB|3)
	b.w(regData, 0x34)
	b.w(regIER, 0x12)
	if b.r(regData) != 0x34 || b.r(regIER) != 0x12 {
		t.Error("divisor")
	}
	b.w(regLCR, 3)
	if b.r(regIER) != 0 || len(b.out) != 0 {
		t.Error("the divisor went elsewhere")
	}
}

func TestTransmit(t *testing.T) {
	b := newBench()
	for _, c := range []byte("hello") {
		if b.r(regLSR)&lsrEmpty != lsrEmpty {
			t.Fatal("transmitter is not empty")
		}
		b.w(regData, c)
	}
	if string(b.out) != "hello" || b.irq {
		t.Errorf("sent %q", b.out)
	}
	b.w(regIER, ierTx)
	if !b.irq || b.r(regIIR)&0xf != iirTx {
		t.Error("no interrupt when it is enabled and the transmitter empty")
	}
	if b.irq || b.r(regIIR)&0xf != iirNone {
		t.Error("the interrupt outlives the reading of IIR")
	}
	b.w(regData, '!')
	if !b.irq {
		t.Error("no interrupt after a byte")
	}
	b.w(regIER, 0)
	if b.irq {
		t.Error("interrupt while disabled")
	}
	b.w(regIER, ierTx) // THRE test of the driver: enabling it again raises it again
	if !b.irq {
		t.Error("no interrupt when enabled again")
	}
}

func TestReceive(t *testing.T) {
	b := newBench()
	b.w(regIIR, fcrEnable|0x80)
	b.Receive([]byte("abc"))
	if b.irq {
		t.Error("interrupt while disabled")
	}
	b.w(regIER, ierRx|ierTx)
	if !b.irq || b.r(regIIR)&0xf != iirTimeout {
		t.Error("fewer bytes than the trigger level")
	}
	b.Receive(bytes.Repeat([]byte("x"), 20))
	if b.r(regIIR)&0xf != iirRx {
		t.Error("more bytes than the trigger level")
	}
	var got []byte
	for b.r(regLSR)&lsrReady != 0 {
		got = append(got, b.r(regData))
	}
	if string(got) != "abcxxxxxxxxxxxxxxxxxxxx" {
		t.Errorf("got %q", got)
	}
	if b.r(regIIR)&0xf != iirTx || b.irq {
		t.Error("the receive interrupt outlives the bytes")
	}
	if b.r(regData) != 0 {
		t.Error("a byte from nowhere")
	}
	// Clearing the FIFO leaves what waits behind it.
	b.Receive(bytes.Repeat([]byte("y"), FIFOBytes+2))
	b.w(regIIR, fcrEnable|fcrClearRx)
	if len(b.rx) != 2 {
		t.Errorf("%d bytes left", len(b.rx))
	}
	b.Receive(make([]byte, QueueBytes))
	if b.Dropped() != 2 || len(b.rx) != QueueBytes {
		t.Errorf("dropped %d", b.Dropped())
	}
	b.w(regMCR, mcrLoop)
	b.w(regData, 'z') // there is no room
	if len(b.rx) != QueueBytes || len(b.out) != 0 {
		t.Error("loop-back")
	}
}

func TestSaveLoad(t *testing.T) {
	a, b := newBench(), newBench()
	a.w(regIIR, fcrEnable)
	a.w(regIER, ierRx|ierTx)
	a.Receive([]byte("typed"))
	a.r(regData)
	var e, again state.Encoder
	a.Save(&e)
	d := state.NewDecoder(e.B)
	b.Load(d)
	b.Save(&again)
	if d.Err() != nil || d.Len() != 0 || !bytes.Equal(e.B, again.B) {
		t.Fatalf("load: %v", d.Err())
	}
	if b.r(regData) != 'y' || !b.irq {
		t.Error("state lost")
	}
}

func FuzzLoad(f *testing.F) {
	b := newBench()
	b.Receive([]byte("typed"))
	var e state.Encoder
	b.Save(&e)
	f.Add(e.B, []byte{1, 0x81, 0, 'x', 0x80, 2})
	f.Fuzz(func(t *testing.T, data, steps []byte) {
		b := newBench()
		d := state.NewDecoder(data)
		b.Load(d)
		for i := 0; i+1 < len(steps) && i < 200; i += 2 {
			off := uint64(steps[i] & 15)
			if steps[i]&0x80 != 0 {
				if b.ReadMMIO(off, 1)>>8 != 0 {
					t.Fatal("more than a byte")
				}
			} else {
				b.WriteMMIO(off, 1, uint64(steps[i+1]))
			}
			if len(b.rx) > QueueBytes {
				t.Fatal("queue beyond its bound")
			}
		}
		var e, again state.Encoder
		b.Save(&e)
		d = state.NewDecoder(e.B)
		b.Load(d)
		b.Save(&again)
		if d.Err() != nil || !bytes.Equal(e.B, again.B) {
			t.Fatal("own state does not load")
		}
	})
}
