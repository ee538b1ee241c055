package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Net is a network of its own: a namespace for each part, wired to one switch. The namespaces have no names and are
// held by descriptors of this process, so the kernel removes them when it ends, however it ends.
//
// Every part knows the others' hardware addresses by heart. To cut it off from another, it is told a wrong one: its
// frames go nowhere, silently, and those of the other direction still come.
type Net struct {
	spaces map[string]*space
	names  []string
}

type space struct {
	file *os.File
	n    int // in its addresses
}

// ErrNoNet reports that this user cannot have networks of its own here.
var ErrNoNet = errors.New("no network namespaces here")

// NewNet makes a network of parts of those names.
func NewNet(names ...string) (n *Net, err error) {
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoNet, err)
	}
	n = &Net{spaces: map[string]*space{}, names: names}
	started := n
	defer func() {
		if err != nil {
			started.Close()
		}
	}()
	hub, err := newSpace(0)
	if err != nil {
		return nil, err
	}
	n.spaces[""] = hub
	wires := []string{"link add br0 type bridge", "link set br0 up"}
	for i, name := range names {
		s, err := newSpace(i + 1)
		if err != nil {
			return nil, err
		}
		n.spaces[name] = s
		wires = append(wires, fmt.Sprintf("link add v%d type veth peer name eth0 netns /proc/%d/fd/%d", s.n, os.Getpid(), s.file.Fd()),
			fmt.Sprintf("link set v%d master br0", s.n), fmt.Sprintf("link set v%d up", s.n))
	}
	if err := n.ip("", wires...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoNet, err)
	}
	for _, name := range names {
		s := n.spaces[name]
		lines := []string{
			"link set lo up", "link set eth0 address " + s.mac(), "addr add " + s.ip() + "/24 dev eth0", "link set eth0 up",
		}
		for _, other := range names {
			if other != name {
				lines = append(lines, n.knows(other, n.spaces[other].mac()))
			}
		}
		if err := n.ip(name, lines...); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoNet, err)
		}
	}
	return n, nil
}

func newSpace(n int) (*space, error) {
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // for ever: the thread, which is in the namespace, ends with this goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err != nil {
			made <- result{nil, fmt.Errorf("%w: %w", ErrNoNet, err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		made <- result{f, err}
	}()
	r := <-made
	if r.err != nil {
		return nil, r.err
	}
	return &space{file: r.file, n: n}, nil
}

func (s *space) ip() string  { return fmt.Sprintf("10.77.0.%d", s.n) }
func (s *space) mac() string { return fmt.Sprintf("02:00:0a:4d:00:%02x", s.n) }

// nobody is a hardware address that no part has.
const nobody = "02:00:0a:4d:ff:ff"

func (n *Net) knows(other, mac string) string {
	return fmt.Sprintf("neigh replace %s lladdr %s nud permanent dev eth0", n.spaces[other].ip(), mac)
}

// ip runs commands of ip(8) in the namespace of a part.
func (n *Net) ip(part string, lines ...string) error {
	return n.From(part, func() error {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ip: %w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}

// IP is the address of a part.
func (n *Net) IP(part string) string { return n.spaces[part].ip() }

// From runs do in the namespace of a part: processes that it starts stay there, and so do sockets.
func (n *Net) From(part string, do func() error) error {
	s := n.spaces[part]
	if s == nil {
		return fmt.Errorf("no part %q in the network", part)
	}
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the namespace of %s: %w", part, err)
	}
	defer func() {
		// A thread that cannot go home stays locked, and ends with its goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return do()
}

// Cut loses everything that one part sends to others, from now on.
func (n *Net) Cut(from string, to ...string) error {
	return n.teach(from, to, func(string) string { return nobody })
}

// Heal lets it through again.
func (n *Net) Heal(from string, to ...string) error {
	return n.teach(from, to, func(other string) string { return n.spaces[other].mac() })
}

func (n *Net) teach(from string, to []string, mac func(string) string) error {
	var lines []string
	for _, other := range to {
		lines = append(lines, n.knows(other, mac(other)))
	}
	return n.ip(from, lines...)
}

// HealAll ends every partition.
func (n *Net) HealAll() error {
	for _, from := range n.names {
		var others []string
		for _, to := range n.names {
			if to != from {
				others = append(others, to)
			}
		}
		if err := n.Heal(from, others...); err != nil {
			return err
		}
	}
	return nil
}

// Others are the parts beside one.
func (n *Net) Others(than string) (all []string) {
	for _, name := range n.names {
		if name != than {
			all = append(all, name)
		}
	}
	return all
}

// Close gives the namespaces up.
func (n *Net) Close() {
	for _, s := range n.spaces {
		s.file.Close()
	}
}
