package lanapi

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
)

// shutdownGrace is how long Serve waits for requests under way once its context has ended.
const shutdownGrace = 2 * time.Second

// Server answers for a Daemon over HTTP. It does not own the daemon: close that after Serve has returned.
type Server struct {
	daemon *Daemon
	log    *slog.Logger
	mux    *http.ServeMux
}

// NewServer returns a server of the daemon; nil for log discards what net/http has to say.
func NewServer(daemon *Daemon, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{daemon: daemon, log: log, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /v1/lans", func(w http.ResponseWriter, r *http.Request) {
		reply(w, listReply{LANs: s.daemon.List()}, nil)
	})
	s.mux.HandleFunc("GET /v1/lans/{name}", func(w http.ResponseWriter, r *http.Request) {
		st, err := s.daemon.Get(r.PathValue("name"))
		reply(w, st, err)
	})
	s.mux.HandleFunc("PUT /v1/lans/{name}", s.put)
	s.mux.HandleFunc("DELETE /v1/lans/{name}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		reply(w, deleteReply{Name: name}, s.daemon.Delete(name))
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
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve LANs on %s: %w", l.Addr(), err)
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

func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	var spec Spec
	if err := read(w, r, &spec); err != nil {
		reply(w, nil, err)
		return
	}
	st, err := s.daemon.Put(r.PathValue("name"), spec)
	reply(w, st, err)
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
	return fmt.Errorf("%w: read request: %w", ErrInvalid, err)
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
