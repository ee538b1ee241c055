package machine

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/event"
	"understudy/internal/oracle/asm"
	"understudy/machine/mem"
)

// cpuTime is what this thread, to which the caller is locked, has used: the benchmarks run beside other work.
func cpuTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// writer is a guest that goes over a range of pages for ever, writing stores words to each before the next.
func writer(t testing.TB, pages, stores int64) []byte {
	t.Helper()
	c := asm.Code{Base: mem.Base + 2<<20 + imageHeaderBytes}
	again, page, word := c.NewLabel(), c.NewLabel(), c.NewLabel()
	root := uint64(mem.Base + 3<<20)
	c.Li(5, int64(root+8*(mem.Base>>30)))
	c.Li(6, mem.Base>>12<<10|0xcf)
	c.I("sd", asm.Args{Rs2: 6, Rs1: 5})
	satp := root>>12 | 8<<60
	c.Li(5, int64(satp))
	c.I("csrrw", asm.Args{Rs1: 5, CSR: 0x180})
	c.Li(12, 4096)
	c.Place(again)
	c.Li(8, mem.Base+16<<20)
	c.Li(9, pages)
	c.Place(page)
	c.Li(10, stores)
	c.I("addi", asm.Args{Rd: 11, Rs1: 8})
	c.Place(word)
	c.I("ld", asm.Args{Rd: 13, Rs1: 11})
	c.I("add", asm.Args{Rd: 13, Rs1: 13, Rs2: 10})
	c.I("sd", asm.Args{Rs2: 13, Rs1: 11})
	c.I("addi", asm.Args{Rd: 11, Rs1: 11, Imm: 8})
	c.I("addi", asm.Args{Rd: 10, Rs1: 10, Imm: -1})
	c.To(asm.Get("bne"), asm.Args{Rs1: 10}, word)
	c.I("add", asm.Args{Rd: 8, Rs1: 8, Rs2: 12})
	c.I("addi", asm.Args{Rd: 9, Rs1: 9, Imm: -1})
	c.To(asm.Get("bne"), asm.Args{Rs1: 9}, page)
	c.To(asm.Get("jal"), asm.Args{}, again)
	return image(c.Finish())
}

func benchMachine(b *testing.B, kernel []byte) *Machine {
	ram, err := syscall.Mmap(-1, 0, 256<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { syscall.Munmap(ram) })
	m, err := New(Config{MemBytes: 256 << 20, Kernel: kernel}, ram)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// BenchmarkDirtyTracking runs a guest that writes memory with and without TakeDirty, in turns in one
// process. "slower" is the guest's part of the processor time spent more, in percent; "take" is TakeDirty.
func BenchmarkDirtyTracking(b *testing.B) {
	for _, c := range []struct{ pages, stores int64 }{{200, 50}, {1000, 512}, {10_000, 10}, {40_000, 2}} {
		for _, hz := range []time.Duration{40, 100} {
			b.Run(fmt.Sprintf("pages=%d/stores=%d/hz=%d", c.pages, c.stores, hz), func(b *testing.B) {
				runtime.LockOSThread()
				m := benchMachine(b, writer(b, c.pages, c.stores))
				const slice = 50_000
				m.Run(20_000_000)
				start, from := cpuTime(), m.Position()
				for cpuTime()-start < 200*time.Millisecond {
					m.RunSlice(m.Position() + slice)
				}
				// As many instructions as the guest executes in an epoch.
				epoch := event.Position(float64(m.Position()-from) / (cpuTime() - start).Seconds() / float64(hz))
				var plain, tracked, take time.Duration
				var dirty []uint32
				n := 0
				for b.Loop() {
					for i := range 20 {
						t0 := cpuTime()
						if i%2 == 1 {
							dirty = m.TakeDirty(dirty[:0])
							n += len(dirty)
						}
						t1 := cpuTime()
						for end := m.Position() + epoch; m.Position() < end; {
							m.RunSlice(min(end, m.Position()+slice))
						}
						if t2 := cpuTime(); i%2 == 1 {
							take += t1 - t0
							tracked += t2 - t1
						} else {
							plain += t2 - t1
						}
					}
				}
				epochs := float64(b.N) * 10
				b.ReportMetric(100*(float64(tracked)/float64(plain)-1), "%slower")
				b.ReportMetric(float64(take.Microseconds())/epochs, "µs/take")
				b.ReportMetric(float64(n)/epochs, "pages/epoch")
				b.ReportMetric((tracked-plain).Seconds()*1e9/float64(n), "ns/page")
				b.ReportMetric(float64(epoch)/1e3, "kinstr/epoch")
			})
		}
	}
}

// BenchmarkState saves and loads the state of a machine of 256 MiB.
func BenchmarkState(b *testing.B) {
	m := benchMachine(b, churn(b))
	m.Run(10_000_000)
	st := m.SaveState()
	b.Run("save", func(b *testing.B) {
		var buf []byte
		for b.Loop() {
			buf = m.AppendState(buf[:0])
		}
		b.ReportMetric(float64(len(buf)), "bytes")
	})
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			if err := m.LoadState(st); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("load/warm", func(b *testing.B) { // the part that a run makes dearer
		var d time.Duration
		for b.Loop() {
			m.Run(m.Position() + 100_000)
			t := time.Now()
			if err := m.LoadState(st); err != nil {
				b.Fatal(err)
			}
			d += time.Since(t)
		}
		b.ReportMetric(float64(d.Microseconds())/float64(b.N), "µs/load")
	})
	b.Run("mark", func(b *testing.B) {
		for b.Loop() {
			m.MarkAllDirty()
		}
	})
	b.Run("take/nothing", func(b *testing.B) {
		m.TakeDirty(nil)
		for b.Loop() {
			m.TakeDirty(nil)
		}
	})
	b.Run("take/all", func(b *testing.B) {
		m.TouchAll()
		dst := make([]uint32, 0, m.Pages())
		for b.Loop() {
			m.MarkAllDirty()
			dst = m.TakeDirty(dst[:0])
		}
	})
}
