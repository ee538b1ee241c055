package e2e

import (
	"fmt"
	"testing"
	"time"

	"understudy/internal/demo"
	"understudy/internal/host"
)

// bootInstructions is about what the guest needs until Redis answers.
const bootInstructions = 350_000_000

// TestKillPrimary kills the primary with SIGKILL at random instants while the guest boots, while a client is
// connected and says nothing, and under load. Nothing that was acknowledged may be lost or done twice, the
// client's connection must live, and the survivor must be the primary of view 2, alone.
func TestKillPrimary(t *testing.T) {
	im := redisImage(t)
	few := 6
	if testing.Short() {
		few = 2
	}
	kills := fromEnv(t, "UNDERSTUDY_KILLS", few)
	r := random(t)
	moments := []func(*testing.T, *demo.Pair, float64){killUnderLoad, killDuringBoot, killUnderLoad, killIdle, killDuringBoot, killUnderLoad}
	names := []string{"load", "boot", "load", "idle", "boot", "load"}
	for i := range kills {
		instant := r.Float64()
		t.Run(fmt.Sprintf("%d-%s", i+1, names[i%len(names)]), func(t *testing.T) {
			p := startPair(t, demo.PairOptions{Image: im})
			moments[i%len(moments)](t, p, instant)
			s := waitAlone(t, p.B)
			if rec := record(t, p); rec.Number != 2 || rec.Primary != "b" || rec.Backup != "" {
				t.Errorf("the arbiter's record is %+v, want view 2 with b alone", rec)
			}
			tl := s.Timeline
			t.Logf("suspected to granted %.1f ms, to live %.1f ms", float64(tl.Granted-tl.Suspected)/1e6, float64(tl.Live-tl.Suspected)/1e6)
		})
	}
}

func kill(t *testing.T, p *demo.Process) time.Time {
	t.Helper()
	if s := status(p); s.Role != "primary" && s.Role != "backup" || s.View != 1 || s.Solo {
		t.Fatalf("before the kill %s is %s of view %d, solo %v: the machine is not protected", p.Name, s.Role, s.View, s.Solo)
	}
	at := time.Now()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	return at
}

func killDuringBoot(t *testing.T, p *demo.Pair, instant float64) {
	waitProtected(t, p)
	at := uint64(instant * bootInstructions)
	s := waitStatus(t, p.A, fmt.Sprintf("past instruction %d", at), func(s host.Status) bool { return s.Position > at })
	kill(t, p.A)
	t.Logf("killed during the boot after %d M instructions", s.Position/1e6)
	l := connect(t, p)
	w := write(t, l)
	w.more(t, 100)
	w.stop(t)
	verify(t, l)
}

func killIdle(t *testing.T, p *demo.Pair, instant float64) {
	l := connect(t, p)
	w := write(t, l)
	w.more(t, 100)
	w.stop(t)
	time.Sleep(time.Duration(instant * float64(time.Second))) // the instant, not a condition
	kill(t, p.A)
	waitAlone(t, p.B)
	w = write(t, l)
	w.more(t, 100)
	w.stop(t)
	verify(t, l)
}

func killUnderLoad(t *testing.T, p *demo.Pair, instant float64) {
	l := connect(t, p)
	w := write(t, l)
	w.more(t, 50+int(200*instant))
	time.Sleep(time.Duration(instant*997*float64(time.Millisecond)) % (20 * time.Millisecond)) // the instant
	at := kill(t, p.A)
	waitAlone(t, p.B)
	w.more(t, 100)
	w.stop(t)
	verify(t, l)
	t.Logf("killed under load after %d acknowledged writes; blackout %s", w.Acks(), l.Blackout(at))
}

// TestKillBackup kills the backup under load: the primary wins view 2 and goes on alone.
func TestKillBackup(t *testing.T) {
	long(t)
	p := startPair(t, demo.PairOptions{})
	l := connect(t, p)
	w := write(t, l)
	w.more(t, 200)
	at := kill(t, p.B)
	waitAlone(t, p.A)
	w.more(t, 200)
	w.stop(t)
	verify(t, l)
	if rec := record(t, p); rec.Number != 2 || rec.Primary != "a" || rec.Backup != "" {
		t.Errorf("the arbiter's record is %+v, want view 2 with a alone", rec)
	}
	t.Logf("blackout %s, of which suspicion takes %s", l.Blackout(at), suspectAfter)
}
