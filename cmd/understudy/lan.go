package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"understudy/internal/lan"
	"understudy/internal/pki"
)

// listening is the line that a serving command prints on stdout when it is ready.
type listening struct {
	Listen   string   `json:"listen,omitempty"`
	Admin    string   `json:"admin,omitempty"`
	Status   string   `json:"status,omitempty"`
	Forwards []string `json:"forwards,omitempty"`
}

// listen opens a listener on host:port of loopback or, with a path, on a unix socket.
func listen(addr string) (net.Listener, error) { return listenAs(addr, nil) }

// listenAs opens a listener whose peers will have to show certificates if id is set; only then it may be
// on an address beyond loopback.
func listenAs(addr string, id *pki.Identity) (net.Listener, error) {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	} else if id == nil {
		if err := loopbackOnly(addr); err != nil {
			return nil, err
		}
	}
	if network == "unix" {
		removeStaleSocket(addr)
	}
	ln, err := net.Listen(network, addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, withHint(fmt.Errorf("listen on %s: %w", addr, syscall.EADDRINUSE), "another address, or port 0 for any free port")
	}
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return ln, nil
}

// removeStaleSocket removes a socket file that a killed process has left: one that nobody answers at.
func removeStaleSocket(path string) {
	if st, err := os.Lstat(path); err != nil || st.Mode().Type() != os.ModeSocket {
		return
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path)
	}
}

// loopbackOnly keeps channels that are not authenticated off the network.
func loopbackOnly(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: want host:port or the path of a unix socket", addr)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("address %q: without certificates (--tls-dir) only loopback addresses are allowed", addr)
	}
	return nil
}

// lanFlags are the flags of the LAN command.
type lanFlags struct {
	addr, pcap, tlsDir    string
	admin, data, joinHost string
	forwards              []string
	outbound              bool
}

func lanCommand() *cobra.Command {
	var o lanFlags
	c := &cobra.Command{
		Use:   "lan",
		Short: "Run the virtual LAN that guests and their clients meet on",
		Long: `Runs an Ethernet switch in user space with a gateway (192.168.127.1: DHCP, DNS, port forwards). Replicas join it
over a stream socket in QEMU's framing. It outlives any replica, and so do the connections through it.

With --admin it runs any number of LANs, one per protected group, that are made and removed over HTTP (PUT, GET, DELETE
/v1/lans/NAME); the flags --listen and --forward then make one called "default". With --data they are there again when the
command is started again, at their old addresses.

Prints one JSON line {"listen": ADDRESS, "forwards": [ADDRESS...]} when it is ready, with "admin": ADDRESS if it has one.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			id, err := identity(o.tlsDir, lan.CertificateName)
			if err != nil {
				return err
			}
			if o.admin != "" {
				return o.runDaemon(c, id)
			}
			for _, name := range []string{"data", "join-host"} {
				if c.Flags().Changed(name) {
					return withHint(fmt.Errorf("--%s is for LANs that --admin makes", name), "understudy lan --admin 127.0.0.1:7071 ...")
				}
			}
			return o.runOne(c, id)
		},
	}
	f := c.Flags()
	f.StringVar(&o.addr, "listen", "127.0.0.1:0", "where replicas join: host:port or the path of a unix socket")
	f.StringArrayVar(&o.forwards, "forward", nil, "forward a host port to the guest, as 127.0.0.1:6379:6379 or 5353:53/udp (repeatable)")
	f.BoolVar(&o.outbound, "allow-outbound", false, "let guests open connections to the outside")
	f.StringVar(&o.pcap, "pcap", "", "capture every frame in this file")
	f.StringVar(&o.admin, "admin", "", "serve the API that makes and removes LANs here: host:port or the path of a unix socket")
	f.StringVar(&o.data, "data", "", "with --admin: keep the set of LANs in this directory")
	f.StringVar(&o.joinHost, "join-host", "", "with --admin: the IP address on which replicas join (default: that of --admin)")
	tlsFlag(f, &o.tlsDir)
	return c
}

// runOne runs one LAN for as long as the command.
func (o *lanFlags) runOne(c *cobra.Command, id *pki.Identity) error {
	l, err := lan.New(lan.Config{AllowOutbound: o.outbound, PcapPath: o.pcap, Identity: id, Log: logger(c)})
	if err != nil {
		return err
	}
	defer l.Close()
	ready := listening{}
	for _, f := range o.forwards {
		spec, err := lan.ParseForward(f)
		if err != nil {
			return err
		}
		at, err := l.Forward(spec)
		if err != nil {
			return withHint(err, "another port, or port 0 for any free one")
		}
		ready.Forwards = append(ready.Forwards, at.String())
	}
	ln, err := listenAs(o.addr, id)
	if err != nil {
		return err
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(true)
	}
	ready.Listen = ln.Addr().String()
	if err := json.NewEncoder(c.OutOrStdout()).Encode(ready); err != nil {
		return err
	}
	return l.Serve(c.Context(), ln)
}
