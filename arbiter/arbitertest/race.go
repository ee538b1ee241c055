package arbitertest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"understudy/arbiter"
	"understudy/arbiter/open"
)

const roleEnv = "UNDERSTUDY_TEST_ROLE"

// claimTimeout bounds a claimant's calls, so that it notices when an arbiter was killed.
const claimTimeout = time.Second

// Main is what TestMain of a package calls that uses Race or parts of its own: in a process that was started
// with [Part] it plays that part and ends, else it runs the tests. parts may be nil.
func Main(m *testing.M, parts map[string]func(args []string) error) {
	name := os.Getenv(roleEnv)
	play := parts[name]
	switch {
	case name == "":
		os.Exit(m.Run())
	case name == "claimant":
		play = playClaimant
	case play == nil:
		play = func([]string) error { return fmt.Errorf("no part %q", name) }
	}
	if err := play(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Part returns the command that plays a part in a process of its own: this test binary, see Main.
func Part(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// StartPart starts a part that prints "ready" and kills it when the test ends.
func StartPart(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := Part(name, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Kill(cmd) })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s says %q, %v", name, line, err)
	}
	return cmd
}

// Kill kills a part and waits for its end.
func Kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// playClaimant contends: address, name, rounds.
func playClaimant(args []string) error {
	var rounds int
	if _, err := fmt.Sscan(args[2], &rounds); err != nil {
		return err
	}
	ctx := context.Background()
	r, closer, err := open.OpenURL(ctx, args[0], open.Options{Timeout: claimTimeout})
	if err != nil {
		return err
	}
	defer closer.Close()
	out := json.NewEncoder(os.Stdout)
	return Contend(ctx, r, "g", args[1], rounds, func(a Answer) { _ = out.Encode(a) })
}

// Shared is a store that several processes can reach.
type Shared struct {
	URL    string // of the empty store, for open.OpenURL
	Rounds int    // how many numbers are raced for
	// Restart kills the store's process and starts it again. Nil if there is none.
	Restart func()
}

// Race lets 16 claimants race: twelve here and four in processes of their own, of which one is killed after each
// tenth of the race and another started, as the store is. A follower watches.
func Race(t *testing.T, s Shared) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	contest := NewContest()
	opened := func() (arbiter.Register, func()) {
		r, closer, err := open.OpenURL(ctx, s.URL, open.Options{Timeout: claimTimeout})
		if err != nil {
			t.Fatal(err)
		}
		return r, func() { _ = closer.Close() }
	}
	var here sync.WaitGroup
	for i := range 12 {
		r, done := opened()
		here.Go(func() {
			defer done()
			if err := Contend(ctx, r, "g", fmt.Sprintf("here-%d", i), s.Rounds, contest.Report); err != nil {
				t.Error(err)
			}
		})
	}
	follower, done := opened()
	here.Go(func() {
		defer done()
		if err := contest.Follow(ctx, follower, "g", s.Rounds); err != nil {
			t.Error(err)
		}
	})
	var readers sync.WaitGroup
	started := 0
	start := func() *exec.Cmd {
		cmd := Part("claimant", s.URL, fmt.Sprintf("process-%d", started), fmt.Sprint(s.Rounds))
		started++
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { Kill(cmd) })
		readers.Go(func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				var a Answer
				if json.Unmarshal(lines.Bytes(), &a) == nil { // the last line of a killed one may be half a line
					contest.Report(a)
				}
			}
		})
		return cmd
	}
	claimants := make([]*exec.Cmd, 4)
	for i := range claimants {
		claimants[i] = start()
	}
	over := make(chan struct{})
	go func() { here.Wait(); close(over) }()
	kills := 0
	for next := 1; ; {
		select {
		case <-over:
		case <-time.After(2 * time.Millisecond):
			// Kill when the race has come a tenth further, not by the clock.
			if _, highest := contest.Won(); highest < uint64(next*s.Rounds/10) {
				continue
			}
			c := &claimants[next%len(claimants)]
			Kill(*c)
			if s.Restart != nil {
				s.Restart()
			}
			*c = start()
			kills, next = kills+1, next+1
			continue
		}
		break
	}
	readers.Wait()
	for _, c := range claimants {
		if err := c.Wait(); err != nil {
			t.Errorf("claimant: %v", err)
		}
	}
	if kills < 3 { // a store that grants faster than processes start leaves no time for ten
		t.Errorf("only %d kills", kills)
	}
	// A number may have gone to a claimant that was killed, or that asked again only after another had
	// taken the next: at most those in flight at a kill.
	contest.Check(t, s.Rounds, kills*16)
	won, _ := contest.Won()
	t.Logf("%d of %d numbers won by claimants that lived to tell, %d kills", won, s.Rounds, kills)
	if won < s.Rounds*8/10 {
		t.Errorf("only %d of %d numbers were won", won, s.Rounds)
	}
}
