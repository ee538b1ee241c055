package shareddisk

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// userTimeoutMs is how long TCP waits for what was sent to be acknowledged, in ms, before the connection is given up.
const userTimeoutMs = 10_000

// userTimeout is a net.Dialer's Control.
func userTimeout(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeoutMs)
	})
}
