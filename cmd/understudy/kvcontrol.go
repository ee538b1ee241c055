package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"understudy/arbiter"
	"understudy/arbiter/boltstore"
	"understudy/arbiter/httparb"
	"understudy/internal/control"
	"understudy/internal/sentinel"
	"understudy/view"
	"understudy/view/httpview"
)

// groupsOf lists the groups that have a register.
func groupsOf(store arbiter.Store) sentinel.Groups {
	return func(ctx context.Context) ([]string, error) {
		all, err := store.All(ctx)
		return slices.Sorted(maps.Keys(all)), err
	}
}

// kvControlCommand is what of control a key-value group needs.
func kvControlCommand() *cobra.Command {
	var listenAddr, sentinelAddr, data, tlsDir string
	var insecure bool
	var deadAfter time.Duration
	c := &cobra.Command{
		Use:   "control",
		Short: "Run arbiter, view service and Sentinel's discovery for key-value groups alone",
		Long: `Runs what key-value groups need beside their servers, where no machines are protected: arbiter and view service on one port, and, on
another, the discovery that clients of Redis Sentinel use. It may be ended and started again at any time.

Prints one JSON line {"listen": ADDRESS, "sentinel": ADDRESS} when it is ready.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if tlsDir == "" && !insecure {
				return errCertificates("kv control")
			}
			id, err := identity(tlsDir, control.Name)
			if err != nil {
				return err
			}
			if data == "" {
				dir, err := stateDir()
				if err != nil {
					return err
				}
				data = filepath.Join(dir, "kv-control.db")
			}
			if err := os.MkdirAll(filepath.Dir(data), 0o700); err != nil {
				return err
			}
			store, err := boltstore.Open(data, boltstore.Options{})
			if err != nil {
				return err
			}
			defer store.Close()
			log := logger(c)
			views, err := httpview.NewService(store, httpview.Options{Log: log, View: view.Config{DeadPings: int(deadAfter / view.DefaultPingInterval)}})
			if err != nil {
				return err
			}
			defer views.Close()
			ln, err := listenAs(listenAddr, id)
			if err != nil {
				return err
			}
			ready := map[string]string{"listen": ln.Addr().String()}
			var options []httpview.ServerOption
			if id != nil {
				ln = tls.NewListener(ln, id.Server(""))
				options = append(options, httpview.OwnPingsOnly())
			}
			ctx, cancel := context.WithCancel(c.Context())
			defer cancel()
			if sentinelAddr != "" {
				sl, err := listenAs(sentinelAddr, id)
				if err != nil {
					return err
				}
				ready["sentinel"] = sl.Addr().String()
				if id != nil {
					sl = tls.NewListener(sl, id.Server(""))
				}
				ended := make(chan struct{})
				go func() { defer close(ended); _ = sentinel.New(views, groupsOf(store), log).Serve(ctx, sl) }()
				defer func() { cancel(); <-ended }()
			}
			if err := json.NewEncoder(c.OutOrStdout()).Encode(ready); err != nil {
				return err
			}
			mux := http.NewServeMux()
			var owned []httparb.ServerOption
			if id != nil {
				owned = append(owned, httparb.OwnClaimsOnly(control.Name))
			}
			registers := httparb.NewServer(store, log, owned...)
			mux.Handle("/v1/groups", registers)
			mux.Handle("/v1/groups/", registers)
			mux.Handle("/", httpview.NewServer(views, log, options...))
			srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10, BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
			context.AfterFunc(ctx, func() { _ = srv.Close() })
			if err := srv.Serve(ln); ctx.Err() == nil {
				return err
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&listenAddr, "listen", controlDefault(), "host:port to serve on (environment: "+envControl+")")
	f.StringVar(&sentinelAddr, "sentinel", "", "host:port for clients of Sentinel")
	f.StringVar(&data, "data", "", "file for what must survive (default: kv-control.db in the state directory)")
	f.BoolVar(&insecure, "insecure", insecureDefault(), "without certificates; only on loopback (environment: "+envInsecure+"=1)")
	f.StringVar(&tlsDir, "tls-dir", os.Getenv(envTLSDir), "directory with ca.pem, control.pem and control-key.pem (environment: "+envTLSDir+")")
	f.DurationVar(&deadAfter, "dead-after", view.DefaultDeadPings*view.DefaultPingInterval, "silence after which the view service holds a server for dead")
	return c
}
