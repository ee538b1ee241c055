package control

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"understudy/api/understudy/v1/understudyv1connect"
	"understudy/arbiter"
	"understudy/arbiter/httparb"
	"understudy/view/httpview"
)

const (
	// maxMessageBytes bounds one message of the API.
	maxMessageBytes = 8 << 20
	// shutdownGrace is how long requests under way may take once control ends.
	shutdownGrace = 2 * time.Second
)

// Handler is everything that control serves. Registers are served if store is not nil.
func (c *Control) Handler(store arbiter.Store) http.Handler {
	mux := http.NewServeMux()
	if store != nil {
		var options []httparb.ServerOption
		if c.cfg.Identity != nil {
			options = append(options, httparb.OwnClaimsOnly(Name))
		}
		registers := httparb.NewServer(store, c.log, options...)
		mux.Handle("/v1/groups", registers)
		mux.Handle("/v1/groups/", registers)
	}
	views := httpview.NewServer(c.views, c.log)
	if c.cfg.Identity != nil {
		views = httpview.NewServer(c.views, c.log, httpview.OwnPingsOnly())
	}
	mux.Handle("/v1/views", views)
	mux.Handle("/v1/views/", views)
	mux.Handle("/v1/views/{group}/switch", usersOnly(views))
	mux.Handle("/v1/drain", usersOnly(views))
	mux.Handle("/v1/counts", views)
	limit := connect.WithReadMaxBytes(maxMessageBytes)
	mux.Handle(understudyv1connect.NewMachineServiceHandler(c, limit, connect.WithInterceptors(c.metrics, users{})))
	mux.Handle(understudyv1connect.NewHostServiceHandler(c, limit, connect.WithInterceptors(c.metrics)))
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		bad := c.storeErr
		c.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if bad != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "{\"error\": %q}\n", bad)
			return
		}
		fmt.Fprintln(w, `{"status": "ok"}`)
	})
	return withPeer(mux)
}

// Serve answers on l until ctx ends, and closes l. With an identity it speaks TLS, to clients with a certificate of the
// same authority. Close the Control after it: streams of the API end with that, so Serve ends them first.
func (c *Control) Serve(ctx context.Context, l net.Listener, store arbiter.Store) error {
	srv := &http.Server{
		Handler:           c.Handler(store),
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	if c.cfg.Identity != nil {
		srv.Protocols.SetHTTP2(true)
		srv.TLSConfig = c.cfg.Identity.Server("")
	} else {
		srv.Protocols.SetUnencryptedHTTP2(true) // for clients of gRPC
	}
	ended := make(chan error, 1)
	go func() {
		if c.cfg.Identity != nil {
			ended <- srv.ServeTLS(l, "", "")
			return
		}
		ended <- srv.Serve(l)
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("serve control on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	c.cancel() // streams end
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close()
	}
	<-ended
	return nil
}
