package torture

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"understudy/internal/control"
	"understudy/internal/lan"
	"understudy/internal/pki"
)

// links puts each host into a network namespace of its own, on a bridge with control, the LAN daemon and the clients. It
// needs root and ip (iproute2). Hosts are not on loopback then, so that everybody has a certificate.
type links struct {
	prefix string // of the names of bridge, namespaces and interfaces
	subnet string // first three numbers of the addresses
	tlsDir string
}

// newLinks makes namespaces, links and certificates. close removes the first two.
func newLinks(dir string) (l *links, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	// The number of this process keeps two runs apart.
	n := os.Getpid()
	l = &links{prefix: fmt.Sprintf("ust%d", n), subnet: fmt.Sprintf("10.%d.%d", 200+n/250%50, n%250), tlsDir: filepath.Join(dir, "tls")}
	if len(l.prefix) > 10 { // 15 characters for an interface
		l.prefix = fmt.Sprintf("ust%d", n%1_000_000)
	}
	made := l
	defer func() {
		if err != nil {
			made.close()
		}
	}()
	err = errors.Join(
		ip("link", "add", l.bridge(), "type", "bridge"), ip("addr", "add", l.hub()+"/24", "dev", l.bridge()), ip("link", "set", l.bridge(), "up"),
	)
	if err != nil {
		return nil, err
	}
	for _, h := range hostNames {
		ns := l.namespace(h)
		for _, c := range [][]string{
			{"netns", "add", ns},
			{"link", "add", ns, "type", "veth", "peer", "name", "eth0", "netns", ns},
			{"link", "set", ns, "master", l.bridge(), "up"},
			{"-n", ns, "addr", "add", l.address(h) + "/24", "dev", "eth0"},
			{"-n", ns, "link", "set", "lo", "up"},
			{"-n", ns, "link", "set", "eth0", "up"},
		} {
			if err := ip(c...); err != nil {
				return nil, err
			}
		}
	}
	if err := os.MkdirAll(l.tlsDir, 0o700); err != nil {
		return nil, err
	}
	if err := pki.NewCA(l.tlsDir, time.Now()); err != nil {
		return nil, err
	}
	for _, name := range append([]string{control.Name, lan.CertificateName, control.UserName}, hostNames...) {
		if err := pki.NewHost(l.tlsDir, name, nil, time.Now()); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// close removes everything that the kernel knows of.
func (l *links) close() {
	for _, h := range hostNames {
		_ = ip("netns", "del", l.namespace(h)) // its end of the link goes with it, and so the other one
	}
	_ = ip("link", "del", l.bridge())
}

func (l *links) bridge() string               { return l.prefix + "br" }
func (l *links) namespace(host string) string { return l.prefix + host }
func (l *links) hub() string                  { return l.subnet + ".1" }
func (l *links) address(host string) string {
	return fmt.Sprintf("%s.%d", l.subnet, 2+slices.Index(hostNames, host))
}

// inside is a command in a host's namespace.
func (l *links) inside(host string, command ...string) []string {
	return append([]string{"netns", "exec", l.namespace(host)}, command...)
}

// cut takes a host off the net, in both directions.
func (l *links) cut(host string) error { return ip("link", "set", l.namespace(host), "down") }

// join undoes cut.
func (l *links) join(host string) error { return ip("link", "set", l.namespace(host), "up") }

// nowhere is an Ethernet address that nobody has.
const nowhere = "02:00:00:00:00:ff"

// deafen has what from sends to an address go nowhere; the other direction stays. It works without any module of the
// kernel's.
func (l *links) deafen(from, address string) error {
	return ip("-n", l.namespace(from), "neigh", "replace", address, "lladdr", nowhere, "nud", "permanent", "dev", "eth0")
}

// hear undoes deafen.
func (l *links) hear(from, address string) error {
	return ip("-n", l.namespace(from), "neigh", "del", address, "dev", "eth0")
}

// others are the addresses of everybody but a host.
func (l *links) others(host string) []string {
	all := []string{l.hub()}
	for _, h := range hostNames {
		if h != host {
			all = append(all, l.address(h))
		}
	}
	return all
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// freePort is a port at an address that nobody used just now.
func freePort(host string) (string, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
