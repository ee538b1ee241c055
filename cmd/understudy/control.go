package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"understudy/arbiter"
	"understudy/arbiter/boltstore"
	"understudy/arbiter/etcdstore"
	"understudy/internal/control"
	"understudy/internal/pki"
	"understudy/internal/sentinel"
	"understudy/view"
)

// controlFlags are those of `understudy control`.
type controlFlags struct {
	listen, data, etcd, tlsDir, lan, advertise string
	sentinel                                   string
	insecure, stopLAN                          bool
	lostAfter, deadAfter                       time.Duration
}

func controlCommand() *cobra.Command {
	var o controlFlags
	c := &cobra.Command{
		Use:   "control",
		Short: "Run the fleet's control: arbiter, view service, API",
		Long: `Runs arbiter, view service and control API in one process on one port. Hosts come to it (understudy host), and so do run,
ps, logs and the rest; GET /metrics serves Prometheus metrics. It may be ended and started again at any time: machines run
on meanwhile, and replicas of a pair watch each other without it.

Unless --lan names one, it starts a LAN daemon (understudy lan --admin) as a process of its own: clients' connections go
through it, so it stays while machines exist, also when control is ended by Ctrl-C. understudy control --stop-lan ends it.

Prints one JSON line {"listen": ADDRESS} when it is ready.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	f := c.Flags()
	f.StringVar(&o.listen, "listen", controlDefault(), "host:port to serve on (environment: "+envControl+")")
	f.StringVar(&o.advertise, "advertise", "", "host:port under which hosts reach it (default: that of --listen)")
	f.StringVar(&o.sentinel, "sentinel", "", "host:port for clients of Redis Sentinel that look for key-value groups")
	f.StringVar(&o.data, "data", "", "directory for what must survive (default: control in the state directory)")
	f.StringVar(&o.etcd, "etcd", "", "keep registers and specs in this etcd: host:port[,host:port...][/prefix]")
	f.StringVar(&o.lan, "lan", "", "URL of a LAN daemon's admin API (default: it starts one)")
	f.BoolVar(&o.stopLAN, "stop-lan", false, "end the LAN daemon that a control with this --data has started, and return")
	f.BoolVar(&o.insecure, "insecure", insecureDefault(), "without certificates; only on loopback (environment: "+envInsecure+"=1)")
	f.StringVar(&o.tlsDir, "tls-dir", os.Getenv(envTLSDir), "directory with ca.pem, control.pem and control-key.pem, see understudy cert (environment: "+envTLSDir+")")
	f.DurationVar(&o.deadAfter, "dead-after", view.DefaultDeadPings*view.DefaultPingInterval, "silence after which the view service holds a replica for dead")
	f.DurationVar(&o.lostAfter, "lost-after", control.DefaultLostAfter, "silence after which a host's spare parts go to others")
	return c
}

func (o *controlFlags) run(c *cobra.Command) error {
	ctx := c.Context()
	if o.tlsDir == "" && !o.insecure {
		return errCertificates("control")
	}
	if o.deadAfter < 2*view.DefaultPingInterval || o.deadAfter > time.Hour || o.lostAfter < time.Second {
		return fmt.Errorf("--dead-after %v, --lost-after %v: want 200ms to 1h, and at least 1s", o.deadAfter, o.lostAfter)
	}
	id, err := identity(o.tlsDir, control.Name)
	if err != nil {
		return err
	}
	if id == nil {
		if err := loopbackOnly(o.listen); err != nil {
			return err
		}
	}
	if o.data == "" {
		dir, err := stateDir()
		if err != nil {
			return err
		}
		o.data = filepath.Join(dir, "control")
	}
	if o.data, err = filepath.Abs(o.data); err != nil {
		return err
	}
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return err
	}
	if o.stopLAN {
		there, err := control.StopLAN(ctx, o.data, id)
		if err == nil && !there {
			fmt.Fprintln(c.ErrOrStderr(), "no LAN daemon of this control runs")
		}
		return err
	}
	cfg := control.Config{Identity: id, LostAfter: o.lostAfter, Log: logger(c)}
	cfg.View.DeadPings = int(o.deadAfter / view.DefaultPingInterval)
	stores, err := o.open(id)
	if err != nil {
		return err
	}
	defer stores.close()
	cfg.Register, cfg.Store = stores.registers, stores.specs
	ln, err := listenAs(o.listen, id)
	if err != nil {
		return err
	}
	defer ln.Close()
	if err := o.tell(&cfg, ln.Addr(), id); err != nil {
		return err
	}
	var lan *control.LANDaemon
	if o.lan != "" {
		lan, err = control.DialLAN(o.lan, id)
	} else {
		lan, err = o.startLAN(ctx, cfg, ln.Addr(), id)
	}
	if err != nil {
		return err
	}
	cfg.LANs = lan
	ctl, err := control.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer ctl.Close()
	if o.sentinel != "" {
		end, err := o.serveSentinel(ctx, ln.Addr(), stores.registers, id, cfg.Log)
		if err != nil {
			return err
		}
		defer end()
	}
	if err := json.NewEncoder(c.OutOrStdout()).Encode(listening{Listen: ln.Addr().String()}); err != nil {
		return err
	}
	err = ctl.Serve(ctx, ln, stores.registers)
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if lan.EndIfIdle(after, o.data) {
		fmt.Fprintln(c.ErrOrStderr(), "Machines run on, and their LAN with them; understudy control --stop-lan ends that.")
	}
	return err
}

func (o *controlFlags) startLAN(ctx context.Context, cfg control.Config, at net.Addr, id *pki.Identity) (*control.LANDaemon, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	host, _, err := net.SplitHostPort(o.advertised(at))
	if err != nil {
		return nil, err
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	tlsDir := o.tlsDir
	if tlsDir != "" {
		if tlsDir, err = filepath.Abs(tlsDir); err != nil {
			return nil, err
		}
	}
	return control.StartLAN(ctx, exe, o.data, host, tlsDir, id, cfg.Log)
}

// serveSentinel answers clients of Sentinel from what the view service at this address says.
func (o *controlFlags) serveSentinel(ctx context.Context, views net.Addr, registers arbiter.Store, id *pki.Identity, log *slog.Logger) (end func(), err error) {
	url := "http://" + views.String()
	if id != nil {
		url = "https://" + views.String()
	}
	copies, err := viewCopies(url, id)
	if err != nil {
		return nil, err
	}
	ln, err := listenAs(o.sentinel, id)
	if err != nil {
		return nil, err
	}
	log.Info("answers clients of Sentinel", "address", ln.Addr().String())
	if id != nil {
		ln = tls.NewListener(ln, id.Server(""))
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = sentinel.New(copies[0], groupsOf(registers), log).Serve(ctx, ln)
	}()
	return func() { cancel(); <-ended }, nil
}

// advertised is where others reach control.
func (o *controlFlags) advertised(at net.Addr) string {
	if o.advertise != "" {
		return o.advertise
	}
	return at.String()
}

// tell fills in what hosts are told.
func (o *controlFlags) tell(cfg *control.Config, at net.Addr, id *pki.Identity) error {
	address, scheme := o.advertised(at), "http://"
	if id != nil {
		scheme = "https://"
	}
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip != nil && ip.IsUnspecified() {
		return withHint(fmt.Errorf("others cannot reach control at %s", address), "--advertise HOST:PORT, the one under which they can")
	}
	cfg.ViewURLs, cfg.Arbiter = []string{scheme + address}, scheme+address
	if o.etcd != "" {
		cfg.Arbiter = "etcd://" + o.etcd
	}
	return nil
}

// stores are where control keeps things.
type stores struct {
	registers arbiter.Store
	specs     control.Store
}

func (s stores) close() {
	_ = s.specs.Close()
	_ = s.registers.Close()
}

// defaultEtcdPrefix is where control's keys begin in etcd.
const defaultEtcdPrefix = "/understudy/control"

func (o *controlFlags) open(id *pki.Identity) (stores, error) {
	if o.etcd == "" {
		registers, err := boltstore.Open(filepath.Join(o.data, "arbiter.db"), boltstore.Options{})
		if err != nil {
			return stores{}, withHint(err, "another --data, if another control uses this one")
		}
		specs, err := control.OpenBolt(filepath.Join(o.data, "control.db"))
		if err != nil {
			_ = registers.Close()
			return stores{}, err
		}
		return stores{registers, specs}, nil
	}
	hosts, prefix, _ := strings.Cut(o.etcd, "/")
	endpoints := strings.Split(hosts, ",")
	opt := etcdstore.Options{}
	if prefix = strings.TrimRight(prefix, "/"); prefix != "" {
		opt.Prefix, prefix = prefix, prefix+"-control"
	} else {
		prefix = defaultEtcdPrefix
	}
	cfg := clientv3.Config{Endpoints: endpoints, DialTimeout: 2 * time.Second, Logger: zap.NewNop()}
	if id != nil {
		opt.TLS, cfg.TLS = id.Client(""), id.Client("")
	}
	registers, err := etcdstore.New(endpoints, opt)
	if err != nil {
		return stores{}, err
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		_ = registers.Close()
		return stores{}, fmt.Errorf("connect to etcd: %w", err)
	}
	return stores{registers, control.NewEtcd(client, prefix)}, nil
}
