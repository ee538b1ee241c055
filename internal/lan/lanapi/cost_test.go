package lanapi

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"understudy/internal/lan"
)

// TestCostOfIdleLANs reports what LANs cost on which nothing happens: UNDERSTUDY_COST=1 go test -v -run Cost.
func TestCostOfIdleLANs(t *testing.T) {
	if os.Getenv("UNDERSTUDY_COST") == "" {
		t.Skip("UNDERSTUDY_COST is not set")
	}
	d, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	measure := func() (heap, rss uint64, goroutines int) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		statm, _ := os.ReadFile("/proc/self/statm")
		var size, resident uint64
		_, _ = fmt.Sscan(string(statm), &size, &resident)
		return m.HeapAlloc + m.StackInuse, resident * uint64(os.Getpagesize()), runtime.NumGoroutine()
	}
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	const n = 20
	heap0, rss0, go0 := measure()
	begun := time.Now()
	var all []Status
	for i := range n {
		s, err := d.Put(fmt.Sprintf("g%d", i), Spec{Forwards: []string{"0:80", "0:53/udp"}})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	t.Logf("making one takes %s", time.Since(begun)/n)
	report := func(what string) {
		heap, rss, goroutines := measure()
		t.Logf("%s: %d KiB of heap and stacks, %d KiB resident, %d goroutines per LAN", what, (heap-heap0)/n>>10, (rss-rss0)/n>>10, (goroutines-go0)/n)
		before := cpu()
		time.Sleep(10 * time.Second)
		t.Logf("%s: %d LANs took %s of a processor in 10 s", what, n, cpu()-before)
	}
	report("empty")
	for _, s := range all {
		for range 2 {
			p := responder(t, lan.Dialer{}, s.Listen)
			defer p.Close()
		}
		echoes(t, s.Forwards[1].At)
	}
	report("with two replicas each (their side of the cables included)")
	begun = time.Now()
	for _, s := range all {
		if err := d.Delete(s.Name); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("removing one takes %s", time.Since(begun)/n)
}
