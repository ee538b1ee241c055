package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"understudy/internal/lan"
	"understudy/internal/lan/lanapi"
	"understudy/internal/pki"
)

// defaultLAN is the LAN that flags make beside those that the admin API makes.
const defaultLAN = "default"

// runDaemon runs the LANs that the admin API makes.
func (o *lanFlags) runDaemon(c *cobra.Command, id *pki.Identity) error {
	log := logger(c)
	if err := o.checkHosts(id); err != nil {
		return err
	}
	ln, err := listenAs(o.admin, id)
	if err != nil {
		return err
	}
	defer ln.Close()
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(true)
	}
	d, err := lanapi.Open(lanapi.Options{
		Dir: o.data, JoinHost: o.joinOn(ln.Addr()), Identity: id, Log: log,
		Listen: func(addr string) (net.Listener, error) { return listenAs(addr, id) },
		Configure: func(name string, cfg *lan.Config) {
			if name == defaultLAN {
				cfg.PcapPath = o.pcap
			}
		},
	})
	if err != nil {
		return err
	}
	defer d.Close()
	ready := listening{Admin: ln.Addr().String()}
	if f := c.Flags(); f.Changed("listen") || f.Changed("forward") {
		spec := lanapi.Spec{Forwards: o.forwards, Outbound: o.outbound}
		if f.Changed("listen") {
			spec.Listen = o.addr
		}
		s, err := d.Put(defaultLAN, spec)
		if err != nil {
			return err
		}
		ready.Listen = s.Listen
		for _, f := range s.Forwards {
			ready.Forwards = append(ready.Forwards, f.At)
		}
	}
	if err := json.NewEncoder(c.OutOrStdout()).Encode(ready); err != nil {
		return err
	}
	if id != nil {
		ln = tls.NewListener(ln, id.Server(""))
	}
	return lanapi.NewServer(d, log).Serve(c.Context(), ln)
}

// checkHosts refuses an admin address from which it cannot be told where replicas may join.
func (o *lanFlags) checkHosts(id *pki.Identity) error {
	host, _, err := net.SplitHostPort(o.admin)
	if err != nil || id == nil || o.joinHost != "" {
		return nil // a unix socket, loopback alone, or nothing to be told
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return withHint(fmt.Errorf("address %q: it does not say where replicas join", o.admin), "--join-host and an IP address of this host that replicas reach")
	}
	return nil
}

// joinOn is the host address on which replicas join: that of the admin API, unless it is told.
func (o *lanFlags) joinOn(admin net.Addr) string {
	if a, ok := admin.(*net.TCPAddr); ok && o.joinHost == "" && !a.IP.IsUnspecified() {
		return a.IP.String()
	}
	return o.joinHost
}
