package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"understudy/internal/agent"
)

func hostCommand() *cobra.Command {
	var (
		o                             agent.Options
		listenAddr, memory, controlIs string
		insecure                      bool
	)
	c := &cobra.Command{
		Use:   "host",
		Short: "Run this machine's part of a fleet",
		Long: `Runs the agent of one machine: it asks control what is to run here, runs each replica in a process of its own, and
reports how they are. While control is away the replicas go on.

The replicas end with this process, however it ends. Before a planned restart: understudy drain NAME.

Prints one JSON line {"listen": ADDRESS} when it is ready; GET /metrics there serves Prometheus metrics.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if o.Identity, err = identity(o.TLSDir, o.Name); err != nil {
				return err
			}
			if o.Identity == nil && !insecure {
				return errCertificates("a host")
			}
			for a := range strings.SplitSeq(controlIs, ",") {
				if a = strings.TrimSpace(a); a == "" {
					continue
				}
				if o.Identity == nil {
					if err := loopbackOnly(a); err != nil {
						return err
					}
				} else if _, _, err := net.SplitHostPort(a); err != nil {
					return fmt.Errorf("address of control %q: want host:port", a)
				}
				o.Control = append(o.Control, a)
			}
			if o.Advertise != "" && o.Identity == nil {
				if err := loopbackOnly(net.JoinHostPort(o.Advertise, "0")); err != nil {
					return err
				}
			}
			if o.MemBytes, err = guestMemory(memory); err != nil {
				return err
			}
			if o.Dir == "" {
				dir, err := stateDir()
				if err != nil {
					return err
				}
				o.Dir = filepath.Join(dir, "hosts", o.Name)
			}
			if o.Listener, err = listenAs(listenAddr, o.Identity); err != nil {
				return err
			}
			defer o.Listener.Close()
			o.Log, o.Version = logger(c), buildVersion()
			a, err := agent.New(o)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(c.OutOrStdout()).Encode(listening{Listen: o.Listener.Addr().String()}); err != nil {
				a.Close()
				return err
			}
			return a.Run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&o.Name, "name", "", "this host's name: 1 to 63 of a-z, 0-9 and hyphen")
	f.StringVar(&controlIs, "control", controlDefault(), "where control is: host:port, several with commas (environment: "+envControl+")")
	f.StringVar(&o.Dir, "dir", "", "where the replicas' files are (default: hosts/NAME in the state directory)")
	f.StringVar(&listenAddr, "listen", "127.0.0.1:0", "where control reaches this host, and metrics are served")
	f.StringVar(&o.Advertise, "advertise", "", "the address under which others reach this machine; replicas listen there (default: that of --listen)")
	f.StringVar(&memory, "mem", "", "memory for guests, as 8G (default: three quarters of this machine's)")
	f.BoolVar(&insecure, "insecure", insecureDefault(), "without certificates; only on loopback (environment: "+envInsecure+"=1)")
	f.DurationVar(&o.SuspectAfter, "suspect-after", 0, "silence after which a replica suspects the other side to be dead, for machines that name none")
	f.StringVar(&o.TLSDir, "tls-dir", os.Getenv(envTLSDir), "directory with ca.pem and this host's certificate and key, see understudy cert (environment: "+envTLSDir+")")
	_ = c.MarkFlagRequired("name")
	return c
}

// guestMemory is the memory that all guests together may take.
func guestMemory(flag string) (uint64, error) {
	if flag != "" {
		return parseBytes(flag)
	}
	var s unix.Sysinfo_t
	if err := unix.Sysinfo(&s); err != nil {
		return 0, fmt.Errorf("ask for this machine's memory: %w", err)
	}
	return uint64(s.Totalram) * uint64(s.Unit) / 4 * 3, nil
}

// buildVersion is the version of this program.
func buildVersion() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "devel"
}
