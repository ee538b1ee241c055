package kv

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"understudy/internal/control"
	"understudy/internal/pki"
	"understudy/kv/client"
	"understudy/view/httpview"
)

// load is clients that each append 0, 1, 2, … to a key of their own, one at a time.
type load struct {
	clients []*client.Client
	acked   []int
	total   atomic.Int64
	stop    context.CancelFunc
	all     sync.WaitGroup
	failed  atomic.Pointer[error]
}

func newLoad(clients []*client.Client) *load {
	life, stop := context.WithCancel(context.Background())
	l := &load{clients: clients, acked: make([]int, len(clients)), stop: stop}
	for i, c := range clients {
		l.all.Go(func() {
			for life.Err() == nil {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				_, err := c.Append(ctx, loadKey(i), fmt.Appendf(nil, "%d,", l.acked[i]))
				cancel()
				if err != nil {
					l.failed.Store(&err)
					return
				}
				l.acked[i]++
				l.total.Add(1)
			}
		})
	}
	return l
}

func loadKey(i int) []byte { return fmt.Appendf(nil, "load-%d", i) }

// verify ends the load and reads everything back: exactly what was acknowledged, in its order.
func (l *load) verify() error {
	l.stop()
	l.all.Wait()
	if err := l.failed.Load(); err != nil {
		return fmt.Errorf("the load failed: %w", *err)
	}
	for i, c := range l.clients {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		got, _, err := c.Get(ctx, loadKey(i))
		cancel()
		if err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		var want []byte
		for n := range l.acked[i] {
			want = fmt.Appendf(want, "%d,", n)
		}
		if string(got) != string(want) {
			at := 0
			for at < min(len(got), len(want)) && got[at] == want[at] {
				at++
			}
			return fmt.Errorf("client %d: %d appends were acknowledged, %d bytes; there are %d bytes, which differ at %d: %.60q", i, l.acked[i], len(want), len(got), at,
				got[min(at, len(got)):])
		}
	}
	return nil
}

// running is a load of a test.
type running struct {
	*load
	t *testing.T
}

func (g *group) load(clients int) *running {
	g.t.Helper()
	var all []*client.Client
	for range clients {
		all = append(all, g.client())
	}
	l := &running{newLoad(all), g.t}
	g.t.Cleanup(func() { l.stop(); l.all.Wait() })
	return l
}

// more waits for n further acknowledged appends.
func (l *running) more(n int64) {
	l.t.Helper()
	from := l.total.Load()
	wait(l.t, fmt.Sprintf("%d more acknowledged appends", n), func() (bool, string) {
		if err := l.failed.Load(); err != nil {
			l.t.Fatal(*err)
		}
		return l.total.Load() >= from+n, fmt.Sprint(l.total.Load()-from, " so far")
	})
}

func (l *running) check() {
	l.t.Helper()
	if err := l.verify(); err != nil {
		l.t.Error(err)
	}
}

// A load in a process of its own, for namespaces: this program again. It prints the number of acknowledged appends whenever that has
// changed, and, when its input ends, what became of them.
const (
	envLoad    = "UNDERSTUDY_TEST_LOAD"     // URL of the view service
	envLoadTLS = "UNDERSTUDY_TEST_LOAD_TLS" // directory of certificates
)

func loadMain() int {
	id, err := pki.Load(os.Getenv(envLoadTLS), control.UserName)
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	var clients []*client.Client
	for range 4 {
		views, err := httpview.NewClient(os.Getenv(envLoad), httpview.ClientOptions{TLS: id.Client(control.Name)})
		if err != nil {
			fmt.Println("error:", err)
			return 1
		}
		c, err := client.New(client.Options{Group: groupName, Views: []httpview.Copy{views}, TLS: id.Client(""), Timeout: 500 * time.Millisecond})
		if err != nil {
			fmt.Println("error:", err)
			return 1
		}
		clients = append(clients, c)
	}
	l := newLoad(clients)
	ended := make(chan struct{})
	go func() {
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		}
		close(ended)
	}()
	for was := int64(-1); ; {
		if n := l.total.Load(); n != was {
			was = n
			fmt.Println("acked", n)
		}
		select {
		case <-time.After(10 * time.Millisecond):
			continue
		case <-ended:
		}
		if err := l.verify(); err != nil {
			fmt.Println("error:", err)
			return 1
		}
		fmt.Println("intact", l.total.Load())
		return 0
	}
}

// loadProcess is a load in the namespace "client".
type loadProcess struct {
	t     *testing.T
	end   func() error // of its input
	acked atomic.Int64
	last  atomic.Pointer[string] // its last line
	read  chan struct{}
}

func (g *group) loadProcess() *loadProcess {
	g.t.Helper()
	self, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envLoad+"=https://"+g.control.ready["listen"], envLoadTLS+"="+g.o.tls)
	in, err := cmd.StdinPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	l := &loadProcess{t: g.t, end: in.Close, read: make(chan struct{})}
	p, r := g.launch("client", cmd)
	out := bufio.NewScanner(r)
	go func() {
		defer close(l.read)
		for out.Scan() {
			line := out.Text()
			var n int64
			if _, err := fmt.Sscanf(line, "acked %d", &n); err == nil {
				l.acked.Store(n)
			} else {
				l.last.Store(&line)
			}
		}
	}()
	g.t.Cleanup(p.kill)
	return l
}

func (l *loadProcess) more(n int64) {
	l.t.Helper()
	from := l.acked.Load()
	wait(l.t, fmt.Sprintf("%d more acknowledged appends", n), func() (bool, string) {
		if text := l.last.Load(); text != nil {
			l.t.Fatal(*text)
		}
		return l.acked.Load() >= from+n, fmt.Sprint(l.acked.Load()-from, " so far")
	})
}

func (l *loadProcess) check() {
	l.t.Helper()
	_ = l.end()
	<-l.read
	if text := l.last.Load(); text == nil || !strings.HasPrefix(*text, "intact ") {
		if text == nil {
			text = new(string)
		}
		l.t.Errorf("the clients say: %q", *text)
	} else {
		l.t.Log(*text, "appends")
	}
}
