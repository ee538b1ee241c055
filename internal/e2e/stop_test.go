package e2e

import (
	"syscall"
	"testing"
	"time"

	"understudy/internal/demo"
)

// exitHalted is the exit code of a replica that lost its part.
const exitHalted = 4

// stopFor is how long a replica is stopped, as by a debugger, a swapping host or a paused virtual machine:
// far longer than the suspicion.
const stopFor = 5 * time.Second

// TestPrimaryStopped stops the primary for a while under load: the backup goes live, and the old primary,
// when it wakes up and believes that no time has passed, must halt before a single frame of it leaves.
//
// The switch says which port a frame came from: it tells whenever the guest's address moves to another
// port, and one frame is enough for that.
func TestPrimaryStopped(t *testing.T) {
	long(t)
	p := startPair(t, demo.PairOptions{})
	l := connect(t, p)
	w := write(t, l)
	w.more(t, 100)
	at := time.Now()
	if err := p.A.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitAlone(t, p.B)
	w.more(t, 100)
	if n := count(p.LAN, "address moved"); n != 1 {
		t.Fatalf("the guest's address moved %d times when the backup went live, want 1:\n%s", n, p.LAN.Log())
	}
	if rest := stopFor - time.Since(at); rest > 0 {
		time.Sleep(rest)
	}
	if err := p.A.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	waitExit(t, p.A, exitHalted)
	wait(t, "the switch to miss the old primary", func() (bool, string) { return count(p.LAN, "port left") == 1, p.LAN.Log() })
	if n := count(p.LAN, "address moved"); n != 1 {
		t.Errorf("after its halt the guest's address has moved %d times, want 1: the old primary sent a frame:\n%s", n, p.LAN.Log())
	}
	waitAlone(t, p.B)
	w.more(t, 100)
	w.stop(t)
	verify(t, l)
	t.Logf("old primary: %s; blackout %s", p.A.LastWords(), l.Blackout(at))
}

// TestBackupStopped stops the backup for a while under load: the primary goes on alone, and the backup halts
// when it wakes up.
func TestBackupStopped(t *testing.T) {
	long(t)
	p := startPair(t, demo.PairOptions{})
	l := connect(t, p)
	w := write(t, l)
	w.more(t, 100)
	at := time.Now()
	if err := p.B.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitAlone(t, p.A)
	w.more(t, 100)
	if rest := stopFor - time.Since(at); rest > 0 {
		time.Sleep(rest)
	}
	if err := p.B.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	waitExit(t, p.B, exitHalted)
	w.more(t, 100)
	w.stop(t)
	verify(t, l)
	if n := count(p.LAN, "address moved"); n != 0 {
		t.Errorf("the guest's address has moved %d times: the backup sent a frame:\n%s", n, p.LAN.Log())
	}
	if rec := record(t, p); rec.Number != 2 || rec.Primary != "a" {
		t.Errorf("the arbiter's record is %+v, want view 2 of a", rec)
	}
	t.Logf("old backup: %s; blackout %s", p.B.LastWords(), l.Blackout(at))
}
