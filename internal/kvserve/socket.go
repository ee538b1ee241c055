package kvserve

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection that the loop serves. Its system calls do not block and are not announced to Go's scheduler, which
// would take the processor away from a goroutine that is in one for longer than 20 µs: delivering to a reader on the same
// machine takes as long now and then.
type socket struct {
	remote, local net.Addr
	fd            int

	mu     sync.Mutex
	closed bool // fd is no longer ours
}

var errNotHere = errors.New("the loop reads and writes this connection")

// newSocket takes a connection out of Go's poller. If it returns nil, nc is as it was.
func newSocket(nc net.Conn) *socket {
	sc, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{remote: nc.RemoteAddr(), local: nc.LocalAddr(), fd: -1}
	if raw.Control(func(fd uintptr) { s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }) != nil || err != nil {
		return nil
	}
	nc.Close()
	return s
}

// Close implements net.Conn, for anybody: the loop finds the connection ended.
func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	}
	return nil
}

// free is the loop's close.
func (s *socket) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		unix.Close(s.fd)
	}
}

// receive reads what there is into b. again: there is nothing now.
func (s *socket) receive(b []byte) (n int, again bool, err error) {
	for {
		r, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
		switch {
		case e == unix.EINTR:
		case e == unix.EAGAIN:
			return 0, true, nil
		case e != 0:
			return 0, false, e
		case r == 0:
			return 0, false, io.EOF
		default:
			return int(r), false, nil
		}
	}
}

// transmit writes as much of b as there is room for.
func (s *socket) transmit(b []byte) (n int, err error) {
	for len(b) > 0 {
		r, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		switch {
		case e == unix.EINTR:
		case e == unix.EAGAIN:
			return n, nil
		case e != 0:
			return n, e
		default:
			n += int(r)
			b = b[r:]
		}
	}
	return n, nil
}

// What is left of net.Conn.
func (s *socket) RemoteAddr() net.Addr             { return s.remote }
func (s *socket) LocalAddr() net.Addr              { return s.local }
func (s *socket) Read([]byte) (int, error)         { return 0, errNotHere }
func (s *socket) Write([]byte) (int, error)        { return 0, errNotHere }
func (s *socket) SetDeadline(time.Time) error      { return errNotHere }
func (s *socket) SetReadDeadline(time.Time) error  { return errNotHere }
func (s *socket) SetWriteDeadline(time.Time) error { return errNotHere }

// poller tells which sockets have become ready, each change once. It is itself a file in Go's poller, so that a goroutine that
// waits for it holds no thread.
type poller struct {
	file *os.File
	raw  syscall.RawConn
	fd   int
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "clients"), fd: fd}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		p.file.Close()
		return nil, err
	}
	return p, nil
}

func (p *poller) add(s *socket) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(s.fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, s.fd, &e))
}

// poll gives the changes so far.
func (p *poller) poll(into []unix.EpollEvent) []unix.EpollEvent {
	into = into[:cap(into)]
	r, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(into))), uintptr(len(into)), 0, 0, 0)
	if e != 0 {
		return into[:0]
	}
	return into[:r]
}

// watch gives changes to each until that reports false or the poller is closed. It looks once per change: what comes while
// each runs is noticed by Go's poller.
func (p *poller) watch(buf []unix.EpollEvent, each func([]unix.EpollEvent) bool) {
	_ = p.raw.Read(func(uintptr) (end bool) {
		for {
			e := p.poll(buf)
			if len(e) > 0 && !each(e) {
				return true
			}
			if len(e) < cap(buf) {
				return false
			}
		}
	})
}

func (p *poller) close() { p.file.Close() }
