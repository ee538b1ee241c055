package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"understudy/arbiter/open"
	"understudy/internal/kvserve"
	"understudy/rsm"
)

func kvCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "kv",
		Short: "A replicated key-value store that speaks Redis's protocol",
	}
	c.AddCommand(kvServeCommand(), kvControlCommand(), kvBenchCommand(), kvDemoCommand())
	return c
}

func kvServeCommand() *cobra.Command {
	var (
		o                                             kvserve.Options
		controlAddr, listenAddr, tlsDir, memory, pass string
		views, arbiterURL, logListen, logAdvertise    string
		insecure                                      bool
		procs                                         int
	)
	c := &cobra.Command{
		Use:   "serve --name NAME --group GROUP --control HOST:PORT [flags]",
		Short: "Run one server of a key-value group",
		Long: `Runs one server of a group. Any number of them may be started: two are active, primary and backup, the rest are spares. A
write is answered when the backup holds it, or when the primary has won the right to act alone; what was answered is not lost
when a server dies, and the rest go on. Clients of Redis find the primary by trying, or by Sentinel.

The data is in memory, and with --dir also in files: a log, and a snapshot from time to time. A server that comes back receives
the state of the group's primary. A group whose servers all died comes back when one of the two that were active starts again
with its directory; servers that the group went on without do not lead. Without --dir such a group has lost its data, and says so.

Prints one JSON line {"listen": ADDRESS, "log": ADDRESS} when it is ready.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Log = logger(c)
			if tlsDir == "" && !insecure {
				return errCertificates("kv serve")
			}
			if o.Name == "" || o.Group == "" {
				return withHint(fmt.Errorf("a server needs a name and a group"), "--name kv1 --group cache")
			}
			if o.Fsync != "" && o.Dir == "" {
				return withHint(fmt.Errorf("--fsync %s: there are no files to sync", o.Fsync), "--dir DIR")
			}
			id, err := identity(tlsDir, o.Name)
			if err != nil {
				return err
			}
			if id != nil {
				o.TLS, o.TLSDir = id.Server(""), tlsDir
			}
			scheme := "http://"
			if id != nil {
				scheme = "https://"
			}
			if views == "" {
				views = scheme + controlAddr
			}
			if arbiterURL == "" {
				arbiterURL = scheme + controlAddr
			}
			if host, ok := strings.CutPrefix(arbiterURL, "http://"); ok {
				if err := loopbackOnly(host); err != nil {
					return err
				}
			}
			if o.Views, err = viewCopies(views, id); err != nil {
				return err
			}
			for i, v := range o.Views {
				o.Views[i] = &complaining{Copy: v, log: o.Log}
			}
			register, closer, err := open.OpenURL(c.Context(), arbiterURL, replicaArbiter(arbiterURL, id, false, true))
			if err != nil {
				return err
			}
			defer closer.Close()
			o.Arbiter = register
			if memory != "" {
				n, err := parseBytes(memory)
				if err != nil {
					return err
				}
				o.MaxMemory = int64(n)
			}
			if pass != "" {
				text, err := os.ReadFile(pass)
				if err != nil {
					return fmt.Errorf("read the password: %w", err)
				}
				if o.Password = strings.TrimRight(string(text), "\r\n"); o.Password == "" {
					return fmt.Errorf("read the password: %s is empty", pass)
				}
			}
			if strings.HasPrefix(listenAddr, ":") && id == nil {
				listenAddr = "127.0.0.1" + listenAddr
			}
			if o.Listener, err = listenAs(listenAddr, id); err != nil {
				return err
			}
			if logListen == "" {
				// On the address that clients use.
				host, _, err := net.SplitHostPort(o.Listener.Addr().String())
				if err != nil {
					return err
				}
				logListen = net.JoinHostPort(host, "0")
			}
			o.LogListen, o.LogAdvertise = logListen, logAdvertise
			if procs == 0 && os.Getenv("GOMAXPROCS") == "" {
				procs = max(1, runtime.GOMAXPROCS(0)/2)
			}
			if procs > 0 {
				runtime.GOMAXPROCS(procs)
			}
			s, err := kvserve.New(o)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(c.OutOrStdout()).Encode(map[string]string{"listen": o.Listener.Addr().String(), "log": s.Node().Addr().String()}); err != nil {
				return err
			}
			return runKV(c.Context(), s, o.Log)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Name, "name", "", "this server's name")
	f.StringVar(&o.Group, "group", "", "the group's name")
	f.StringVar(&controlAddr, "control", controlDefault(), "host:port of control, which is view service and arbiter (environment: "+envControl+")")
	f.StringVar(&views, "views", "", "copies of the view service instead of control's: http://host:port[,...], https:// or unix:/path")
	f.StringVar(&arbiterURL, "arbiter", "", "the arbiter instead of control's, see understudy replica")
	f.StringVar(&listenAddr, "listen", "127.0.0.1:6379", "host:port for clients")
	f.StringVar(&o.ClientAddr, "advertise", "", "host:port under which clients reach it (default: that of --listen)")
	f.StringVar(&logListen, "log-listen", "", "host:port where a primary sends state and log (default: a free port)")
	f.StringVar(&logAdvertise, "log-advertise", "", "host:port under which primaries reach that")
	f.StringVar(&memory, "maxmemory", "", "size of the data above which commands that need memory are refused, as 512M (default: no bound)")
	f.StringVar(&pass, "requirepass", "", "file with the password that clients must give")
	f.BoolVar(&insecure, "insecure", insecureDefault(), "without certificates; only on loopback (environment: "+envInsecure+"=1)")
	f.StringVar(&tlsDir, "tls-dir", os.Getenv(envTLSDir), "directory with ca.pem, NAME.pem and NAME-key.pem (environment: "+envTLSDir+")")
	f.StringVar(&o.Dir, "dir", "", "directory of this server's files: log and snapshots (default: none, the data is in memory only)")
	f.StringVar(&o.Fsync, "fsync", "", "when files are synced: always (before a write is answered), everysec (a crash of both hosts loses a second) or no (default everysec)")
	f.DurationVar(&o.SuspectAfter, "suspect-after", rsm.DefaultSuspectAfter, "silence after which the other side is suspected to be dead")
	f.DurationVar(&o.DigestEvery, "digest-every", 30*time.Second, "time between two comparisons of the backup's state with the primary's; 0 for none")
	f.IntVar(&procs, "procs", 0, "processors to use (default: half of what there is: all operations go through one, and handing them over costs more than it brings)")
	f.IntVar(&o.MaxClients, "maxclients", kvserve.DefaultMaxClients, "connections at a time")
	return c
}
