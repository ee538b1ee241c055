package httparb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"understudy/arbiter"
)

// shutdownGrace is how long Serve waits for requests under way once its context has ended. A claim takes
// milliseconds; a client that trickles its request does not hold the server up.
const shutdownGrace = 2 * time.Second

// Server answers for a store over HTTP. It does not own the store: close that after Serve has returned.
type Server struct {
	store arbiter.Store
	log   *slog.Logger
	mux   *http.ServeMux
	// watches holds one token per watch under way.
	watches chan struct{}
	owned   bool     // see OwnClaimsOnly
	others  []string // who may claim for others
}

// ServerOption changes what NewServer makes.
type ServerOption func(*Server)

// OwnClaimsOnly has the server refuse (403) a claim by somebody who has no part in it: a certificate must speak for the primary or
// the backup of the record that it claims, and for one of those of the record in force, if there is one. So no host can take
// over a group that it has nothing to do with. Certificates that speak for one of others may claim anything: view services.
func OwnClaimsOnly(others ...string) ServerOption {
	return func(s *Server) { s.owned, s.others = true, others }
}

// servingKey is the key of the context of Serve in the contexts of its requests. Those do not end with it:
// a request under way may finish.
type servingKey struct{}

// NewServer returns a server of the store's registers. Grants and store errors are logged to log; nil
// discards them.
func NewServer(store arbiter.Store, log *slog.Logger, options ...ServerOption) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{store: store, log: log, mux: http.NewServeMux(), watches: make(chan struct{}, maxWatches)}
	for _, o := range options {
		o(s)
	}
	s.mux.HandleFunc("GET /v1/groups", s.list)
	s.mux.HandleFunc("GET /v1/groups/{group}", s.get)
	s.mux.HandleFunc("GET /v1/groups/{group}/watch", s.watch)
	s.mux.HandleFunc("POST /v1/groups/{group}/claim", s.claim)
	s.mux.HandleFunc("GET /healthz", s.health)
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
		IdleTimeout:       0, // replicas keep a connection warm for the day they need it
		MaxHeaderBytes:    16 << 10,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), servingKey{}, ctx)
		},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve arbiter on %s: %w", l.Addr(), err)
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

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	all, err := s.store.All(r.Context())
	s.reply(w, r, groupsReply{Groups: all}, err)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	rec, err := s.store.Get(r.Context(), r.PathValue("group"))
	s.reply(w, r, rec, err)
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	after, wait, err := watchParameters(r)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, errorReply{err.Error()})
		return
	}
	select {
	case s.watches <- struct{}{}:
		defer func() { <-s.watches }()
	default:
		writeJSON(w, http.StatusServiceUnavailable, errorReply{fmt.Sprintf("%d watches are under way already", maxWatches)})
		return
	}
	// The server's limits are for requests that are answered at once: its read limit would end the
	// request's context in mid-watch.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Now().Add(wait + 10*time.Second))
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	if serving, ok := r.Context().Value(servingKey{}).(context.Context); ok {
		defer context.AfterFunc(serving, cancel)()
	}
	rec, err := s.store.Watch(ctx, r.PathValue("group"), after)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		rec, err = s.store.Get(r.Context(), r.PathValue("group"))
	}
	if err != nil && ctx.Err() != nil {
		// The watcher hung up, or this server ends: nothing is wrong with the store.
		writeJSON(w, http.StatusServiceUnavailable, errorReply{"the watch ended: " + err.Error()})
		return
	}
	s.reply(w, r, rec, err)
}

// watchParameters reads after and wait_ms.
func watchParameters(r *http.Request) (after uint64, wait time.Duration, err error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, 0, fmt.Errorf("read parameters: %w", err)
	}
	if after, err = strconv.ParseUint(query.Get("after"), 10, 64); err != nil {
		return 0, 0, fmt.Errorf("read parameter after: %w", err)
	}
	if !query.Has("wait_ms") {
		return after, defaultWait, nil
	}
	ms, err := strconv.ParseUint(query.Get("wait_ms"), 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("read parameter wait_ms: %w", err)
	}
	return after, min(maxWait, time.Duration(ms)*time.Millisecond), nil
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	_, err := s.store.Get(r.Context(), "healthz")
	s.reply(w, r, map[string]string{"status": "ok"}, err)
}

func (s *Server) claim(w http.ResponseWriter, r *http.Request) {
	var next arbiter.Record
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	dec.DisallowUnknownFields()
	err := dec.Decode(&next)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("more than one JSON value")
		}
	}
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			writeJSON(w, http.StatusRequestEntityTooLarge, errorReply{fmt.Sprintf("body of more than %d bytes", maxBodyBytes)})
			return
		}
		writeJSON(w, http.StatusBadRequest, errorReply{"read record: " + err.Error()})
		return
	}
	group := r.PathValue("group")
	if err := s.mayClaim(r, group, next); err != nil {
		s.log.Warn("refused a claim", "group", group, "number", next.Number, "primary", next.Primary, "err", err)
		writeJSON(w, http.StatusForbidden, errorReply{err.Error()})
		return
	}
	// A claimant that hangs up while its claim is written does not cancel the write.
	current, won, err := s.store.CompareAndSet(context.WithoutCancel(r.Context()), group, next)
	if err == nil {
		s.log.Info("claim", "group", group, "number", next.Number, "primary", next.Primary, "backup", next.Backup,
			"claimant", next.Claimant, "won", won, "current", current.Number)
	}
	s.reply(w, r, claimReply{Current: current, Won: won}, err)
}

// mayClaim returns nil if the certificate that was shown may make the claim, or if it would be lost anyway.
func (s *Server) mayClaim(r *http.Request, group string, next arbiter.Record) error {
	if !s.owned {
		return nil
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return errors.New("a claim needs a certificate")
	}
	speaksFor := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return name != "" && r.TLS.PeerCertificates[0].VerifyHostname(name) == nil })
	}
	if speaksFor(s.others...) {
		return nil
	}
	if !speaksFor(next.Primary, next.Backup) {
		return fmt.Errorf("the certificate speaks neither for %q nor for %q", next.Primary, next.Backup)
	}
	now, err := s.store.Get(r.Context(), group)
	if err != nil {
		return nil // the claim will say so
	}
	if now.Number > 0 && next.Number == now.Number+1 && !speaksFor(now.Primary, now.Backup) {
		return fmt.Errorf("the certificate speaks for nobody in view %d", now.Number)
	}
	return nil
}

func (s *Server) reply(w http.ResponseWriter, r *http.Request, v any, err error) {
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, v)
	case errors.Is(err, arbiter.ErrInvalid):
		writeJSON(w, http.StatusBadRequest, errorReply{err.Error()})
	case errors.Is(err, arbiter.ErrRefused):
		writeJSON(w, http.StatusUnprocessableEntity, errorReply{err.Error()})
	default:
		s.log.Error("store does not answer", "request", r.Method+" "+r.URL.Path, "err", err)
		writeJSON(w, http.StatusServiceUnavailable, errorReply{err.Error()})
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone asks again
}
