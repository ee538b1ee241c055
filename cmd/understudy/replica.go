package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"understudy/arbiter/open"
	"understudy/internal/control"
	"understudy/internal/host"
	"understudy/internal/pki"
	"understudy/internal/shareddisk"
	"understudy/view/httpview"
)

func replicaCommand() *cobra.Command {
	var (
		m                                       machineFlags
		o                                       host.Options
		listenAddr, arbiterURL, status, console string
		tlsDir, views, bandwidth, mode          string
		shared                                  []string
		sharedReads                             string
		epoch                                   time.Duration
		arbiterCreate                           bool
	)
	c := &cobra.Command{
		Use:   "replica [flags] [IMAGE]",
		Short: "Run one side of a protected machine",
		Long: `Runs one replica of a machine. The side with --peer-addr begins as primary: it waits for its backup, claims view 1 at the
arbiter and boots. The side with --listen begins as backup: it waits for its primary and follows its log.

With --views it is a member of a group with spares, and takes the part that the view service gives it: with an image (or
--kernel) it may begin the group, without one it waits to receive the running machine as its backup. A process is one life: it
never comes back to a part that it has lost (exit code 4); start another.

Prints one JSON line {"listen": ADDRESS, "status": ADDRESS} when it is ready; GET /status there tells role, view, position,
lag and more. Exit code 0: the guest shut down. 1: it reported a failure. 3: it asked for a reboot. 4: this replica lost
its part and halted. 125: an error of ours.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				m.image = args[0]
			}
			var err error
			o.Log = logger(c)
			o.MayFound = views == "" || m.image != "" || m.kernel != ""
			if o.MayFound {
				if o.Machine, o.Disks, err = m.config(o.LANAddr != "", ""); err != nil {
					return err
				}
			}
			if o.Identity, err = identity(tlsDir, o.Name); err != nil {
				return err
			}
			for _, addr := range shared {
				if err := shareddisk.CheckAddr(addr, o.Identity); err != nil {
					return err
				}
				if o.MayFound {
					o.Disks = append(o.Disks, host.DiskSpec{Shared: addr})
				}
			}
			if o.BackupReads, err = host.ParseReads(sharedReads); err != nil {
				return err
			}
			if o.BackupReads && len(shared) == 0 {
				return withHint(errors.New("--shared-disk-reads disk: there is no shared disk to read"), "--shared-disk HOST:PORT, see understudy disk --help")
			}
			if o.Views, err = viewCopies(views, o.Identity); err != nil {
				return err
			}
			length := ""
			if c.Flags().Changed("epoch") {
				length = epoch.String()
			}
			if o.Mode, err = host.ParseMode(mode, length); err != nil {
				return err
			}
			if bandwidth != "" {
				if o.Bandwidth, err = parseBytes(bandwidth); err != nil {
					return err
				}
			}
			if o.PeerAddr != "" && o.Identity == nil {
				if err := loopbackOnly(o.PeerAddr); err != nil {
					return err
				}
			}
			if o.LANAddr != "" && !strings.HasPrefix(o.LANAddr, "/") && o.Identity == nil {
				if err := loopbackOnly(o.LANAddr); err != nil {
					return err
				}
			}
			if host, ok := strings.CutPrefix(arbiterURL, "http://"); ok {
				if err := loopbackOnly(host); err != nil {
					return err
				}
			}
			ready := listening{}
			if listenAddr != "" {
				if o.Listener, err = listenAs(listenAddr, o.Identity); err != nil {
					return err
				}
				ready.Listen = o.Listener.Addr().String()
			}
			if arbiterURL != "" {
				register, closer, err := open.OpenURL(c.Context(), arbiterURL, replicaArbiter(arbiterURL, o.Identity, arbiterCreate, views != ""))
				if err != nil {
					return err
				}
				defer closer.Close()
				// A member of a group can wait for its arbiter: the others may have no other host to turn to.
				if err := open.Warm(c.Context(), register); err != nil && views == "" {
					return withHint(fmt.Errorf("reach the arbiter at %s: %w", arbiterURL, err), "start it with: understudy arbiter --listen ADDRESS")
				}
				o.Arbiter = register
			}
			if console != "" {
				f, err := openConsole(console, c.OutOrStdout())
				if err != nil {
					return err
				}
				defer f.Close()
				o.Console = f
			}
			r, err := host.New(c.Context(), o)
			if err != nil {
				return err
			}
			if status != "" {
				ln, err := listen(status)
				if err != nil {
					return err
				}
				ready.Status = ln.Addr().String()
				srv := &http.Server{Handler: r.Handler(), ReadHeaderTimeout: 5 * time.Second}
				go srv.Serve(ln)
				defer srv.Close()
			}
			if err := json.NewEncoder(c.OutOrStdout()).Encode(ready); err != nil {
				return err
			}
			down, err := r.Run(c.Context())
			if errors.Is(err, host.ErrHalted) {
				return &exitError{code: exitHalted, err: err}
			}
			if err != nil {
				return err
			}
			return ended(down)
		},
	}
	m.add(c.Flags())
	f := c.Flags()
	f.StringVar(&o.Name, "name", "a", "this replica's name")
	f.StringVar(&o.Peer, "peer", "", "the other replica's name; without it the machine runs alone")
	f.StringVar(&o.Group, "group", "default", "the protected group's name at the arbiter")
	f.StringVar(&o.PeerAddr, "peer-addr", "", "where the backup listens; makes this side the first primary")
	f.StringVar(&listenAddr, "listen", "", "where to await the primary; without --views it makes this side the first backup")
	f.StringVar(&views, "views", "", "copies of the view service: http://host:port[,...], https:// or unix:/path")
	f.StringVar(&o.Advertise, "advertise", "", "with --views: where the primary finds this replica (default: the address of --listen)")
	f.StringVar(&o.StateDir, "state-dir", ".", "with --views: where disks that come from the primary are kept")
	f.StringVar(&bandwidth, "bandwidth", "", "most bytes per second for sending the state to a new backup, as 50M (default: no bound)")
	f.StringVar(&o.LANAddr, "lan", "", "the virtual LAN: host:port or the path of its unix socket")
	f.StringVar(&arbiterURL, "arbiter", "", "the arbiter: http://host:port, https://host:port or unix:/path of understudy arbiter, etcd://host:port,.../prefix, or dir:/path on storage that both sides share")
	f.BoolVar(&arbiterCreate, "arbiter-create", false, "with --arbiter dir:/path: make an empty directory a new arbiter")
	f.StringVar(&mode, "mode", "lockstep", "how the backup follows: lockstep (it executes the same) or checkpoint (it receives what changed in every epoch)")
	f.DurationVar(&epoch, "epoch", 0, "with --mode checkpoint: length of an epoch (default: as load and outputs want it)")
	f.StringArrayVar(&shared, "shared-disk", nil, "a disk that all hosts share, where understudy disk serves it: host:port or the path of a unix socket (repeatable)")
	f.StringVar(&sharedReads, "shared-disk-reads", "log", "how the backup has what was read from shared disks: log (it travels in the log) or disk (the backup reads it too; writes wait for that). Rests in checkpoint mode")
	f.StringVar(&o.TakeShared, "take-shared-disk", "", "take shared disks from groups whose names begin with this: former starts of the same machine")
	tlsFlag(f, &tlsDir)
	f.StringVar(&status, "status", "", "serve GET /status here")
	f.StringVar(&console, "console", "", "write the guest's console to this file, - for stdout")
	f.DurationVar(&o.SuspectAfter, "suspect-after", host.DefaultSuspectAfter, "silence after which the other side is suspected to be dead")
	f.DurationVar(&o.LagMax, "lag-max", host.DefaultLagMax, "guest time that the backup may be behind before the primary is slowed")
	f.DurationVar(&o.DigestEvery, "digest-every", host.DefaultDigestEvery, "time between two comparisons of the whole state; negative for none")
	f.DurationVar(&o.PeerTimeout, "peer-timeout", host.DefaultPeerTimeout, "how long to wait for the backup at the start")
	return c
}

// viewCopies makes a client of every copy of the view service.
func viewCopies(urls string, id *pki.Identity) (copies []httpview.Copy, err error) {
	if urls == "" {
		return nil, nil
	}
	for _, u := range strings.Split(urls, ",") {
		var o httpview.ClientOptions
		switch {
		case strings.HasPrefix(u, "https:") && id == nil:
			return nil, withHint(fmt.Errorf("view service %s: no certificate to show", u), "--tls-dir DIR, see understudy cert")
		case strings.HasPrefix(u, "https:"):
			o.TLS = id.Client(control.Name)
		case strings.HasPrefix(u, "http://"):
			if err := loopbackOnly(strings.TrimPrefix(u, "http://")); err != nil {
				return nil, err
			}
		}
		v, err := httpview.NewClient(u, o)
		if err != nil {
			return nil, err
		}
		copies = append(copies, v)
	}
	return copies, nil
}

// replicaArbiter is arbiterOptions, for a fleet's control too, which is the arbiter of its groups.
func replicaArbiter(url string, id *pki.Identity, create, fleet bool) open.Options {
	o := arbiterOptions(url, id, create)
	if fleet && id != nil && strings.HasPrefix(url, "https:") {
		o.TLS = id.Client(control.Name)
	}
	return o
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func openConsole(path string, stdout io.Writer) (io.WriteCloser, error) {
	if path == "-" {
		return nopCloser{stdout}, nil
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}
