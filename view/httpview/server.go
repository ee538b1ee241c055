package httpview

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"understudy/view"
)

// shutdownGrace is how long Serve waits for requests under way once its context has ended.
const shutdownGrace = 2 * time.Second

// Server answers for a Service over HTTP. It does not own the service: close that after Serve has returned.
type Server struct {
	service *Service
	log     *slog.Logger
	mux     *http.ServeMux
	ownOnly bool
}

// ServerOption changes NewServer.
type ServerOption func(*Server)

// OwnPingsOnly has the server refuse (403) a ping whose server's name is not in the certificate that the client has shown:
// a host may not keep another one alive, nor take its place.
func OwnPingsOnly() ServerOption { return func(s *Server) { s.ownOnly = true } }

// NewServer returns a server of the service; nil for log discards what net/http has to say.
func NewServer(service *Service, log *slog.Logger, options ...ServerOption) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{service: service, log: log, mux: http.NewServeMux()}
	for _, o := range options {
		o(s)
	}
	s.mux.HandleFunc("GET /v1/views", func(w http.ResponseWriter, r *http.Request) {
		reply(w, groupsReply{Groups: s.service.Groups()}, nil)
	})
	s.mux.HandleFunc("GET /v1/views/{group}", func(w http.ResponseWriter, r *http.Request) {
		a, err := s.service.Get(r.Context(), r.PathValue("group"))
		reply(w, a, err)
	})
	s.mux.HandleFunc("POST /v1/views/{group}/ping", s.ping)
	s.mux.HandleFunc("GET /v1/views/{group}/status", func(w http.ResponseWriter, r *http.Request) {
		st, err := s.service.Status(r.Context(), r.PathValue("group"))
		reply(w, st, err)
	})
	s.mux.HandleFunc("POST /v1/views/{group}/switch", func(w http.ResponseWriter, r *http.Request) {
		n, err := s.service.Switch(r.Context(), r.PathValue("group"))
		reply(w, switchReply{Target: n}, err)
	})
	s.mux.HandleFunc("POST /v1/drain", s.drain)
	s.mux.HandleFunc("GET /v1/counts", func(w http.ResponseWriter, r *http.Request) {
		reply(w, s.service.Counts(), nil)
	})
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]string{"status": "ok"}, nil)
	})
	return s
}

// ServeHTTP makes the server an http.Handler, to be mounted beside others.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Serve answers requests on l until ctx ends, then lets those under way finish, and returns nil. It closes
// l. Any other end is an error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve views on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close()
	}
	<-ended
	return nil
}

func (s *Server) ping(w http.ResponseWriter, r *http.Request) {
	var p view.Ping
	if err := read(w, r, &p); err != nil {
		reply(w, nil, err)
		return
	}
	group := r.PathValue("group")
	if p.Group != "" && p.Group != group {
		reply(w, nil, fmt.Errorf("%w: ping of group %q sent to group %q", view.ErrInvalid, p.Group, group))
		return
	}
	if s.ownOnly && (r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].VerifyHostname(p.Server) != nil) {
		reply(w, nil, fmt.Errorf("%w: the certificate does not speak for server %q", errForbidden, p.Server))
		return
	}
	p.Group = group
	a, err := s.service.Ping(r.Context(), p)
	reply(w, a, err)
}

func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	var d drainRequest
	if err := read(w, r, &d); err != nil {
		reply(w, nil, err)
		return
	}
	holding, err := s.service.Drain(r.Context(), d.Server, d.Drain)
	reply(w, drainReply{Holding: holding}, err)
}

// read takes a body of one JSON value.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("more than one JSON value")
		}
	}
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return fmt.Errorf("%w: more than %d bytes", errTooLarge, maxBodyBytes)
	}
	return fmt.Errorf("%w: read request: %w", view.ErrInvalid, err)
}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code, status := "unknown", http.StatusServiceUnavailable
		for _, c := range codes {
			if errors.Is(err, c.err) {
				code, status = c.code, c.status
				break
			}
		}
		w.WriteHeader(status)
		v = errorReply{Error: err.Error(), Code: code}
	}
	_ = json.NewEncoder(w).Encode(v) // a client that is gone asks again
}
