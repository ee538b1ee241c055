package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"understudy/internal/host"
	"understudy/internal/lan"
	"understudy/machine"
)

// escapeByte leaves the console: Ctrl-].
const escapeByte = 0x1d

func bootCommand() *cobra.Command {
	var (
		m        machineFlags
		forwards []string
		outbound bool
		pcap     string
	)
	c := &cobra.Command{
		Use:   "boot [flags] [IMAGE]",
		Short: "Run one unprotected machine on this terminal",
		Long: `Boots IMAGE (a directory, or the name of an image made by "understudy image build"), or a kernel of your own, in one
machine without a backup, with its console on this terminal. Ctrl-] leaves.

Exit code 0: the guest shut down. 1: it reported a system failure (SBI system reset). 3: it asked for a reboot.
125: an error of ours.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				m.image = args[0]
			}
			return boot(c, &m, forwards, outbound, pcap)
		},
	}
	c.Flags().SetInterspersed(true)
	m.add(c.Flags())
	c.Flags().StringArrayVar(&forwards, "forward", nil, "forward a host port to the guest, as 127.0.0.1:6379:6379 (repeatable)")
	c.Flags().BoolVar(&outbound, "allow-outbound", false, "let the guest open connections to the outside")
	c.Flags().StringVar(&pcap, "pcap", "", "capture every frame in this file")
	return c
}

func boot(c *cobra.Command, m *machineFlags, forwards []string, outbound bool, pcap string) error {
	scratch, err := os.MkdirTemp("", "understudy-boot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	ctx, cancel := context.WithCancelCause(c.Context())
	defer cancel(nil)

	cfg, disks, err := m.config(true, scratch)
	if err != nil {
		return err
	}
	l, err := lan.New(lan.Config{AllowOutbound: outbound, PcapPath: pcap})
	if err != nil {
		return err
	}
	defer l.Close()
	for _, f := range forwards {
		spec, err := lan.ParseForward(f)
		if err != nil {
			return err
		}
		at, err := l.Forward(spec)
		if err != nil {
			return withHint(err, "another port, or port 0 for any free one")
		}
		fmt.Fprintf(c.ErrOrStderr(), "forwarding %s to port %d of the guest\n", at, spec.GuestPort)
	}
	ln, err := net.Listen("unix", filepath.Join(scratch, "lan.sock"))
	if err != nil {
		return err
	}
	go l.Serve(ctx, ln)

	r, err := host.New(ctx, host.Options{
		Name: "boot", Group: "boot", Machine: cfg, Disks: disks, LANAddr: ln.Addr().String(), Console: c.OutOrStdout(),
	})
	if err != nil {
		return err
	}
	restore := rawTerminal()
	defer restore()
	go keyboard(os.Stdin, r, func() { cancel(errLeft) })
	down, err := r.Run(ctx)
	restore()
	if context.Cause(ctx) == errLeft {
		fmt.Fprintln(c.ErrOrStderr(), "\nleft the machine; it is gone")
		return nil
	}
	if err != nil {
		return err
	}
	return ended(down)
}

var errLeft = fmt.Errorf("left by Ctrl-]")

// rawTerminal lets keys through as they are typed; the function it gives undoes that.
func rawTerminal() (restore func()) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return func() {}
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return func() {}
	}
	return func() { _ = term.Restore(fd, old) }
}

// keyboard types what it reads at the guest's serial console until Ctrl-] or the end of input.
func keyboard(in io.Reader, r *host.Replica, leave func()) {
	buf := make([]byte, 1024)
	for {
		n, err := in.Read(buf)
		for i, b := range buf[:n] {
			if b == escapeByte {
				r.Input(machine.ConsoleSerial, buf[:i])
				leave()
				return
			}
		}
		if n > 0 {
			r.Input(machine.ConsoleSerial, buf[:n])
		}
		if err != nil {
			return
		}
	}
}
