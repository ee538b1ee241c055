package host

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"understudy/event"
	"understudy/machine"
	"understudy/replica"
)

// maxTypedBytes bounds one request that types at a console.
const maxTypedBytes = 64 << 10

// Handler serves what a host asks of its replica:
//
//	GET  /status                                Status as JSON
//	GET  /console?from=OFFSET&follow=1          what the guest said on its consoles from an offset on, raw. A negative
//	                                            offset counts from the end; X-Offset tells where the answer begins
//	POST /console?n=0                           keystrokes for console n; 409 if this is not the primary
//	POST /handover                              {"view": 3, "pause_ns": 2100000} when the backup leads; 409 {"error": "..."}
//	POST /mode?mode=checkpoint&epoch=25ms       changes how the machine is protected; 409 if this is not the primary
//	POST /leave?on=1                            asks the view service to be relieved of its part, and given no other
//
// Whoever reaches it may do all that: it belongs on a unix socket.
func (r *Replica) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, r.Status()) })
	mux.HandleFunc("GET /console", r.serveConsole)
	mux.HandleFunc("POST /console", r.serveType)
	mux.HandleFunc("POST /handover", func(w http.ResponseWriter, _ *http.Request) {
		view, pause, err := r.HandOver()
		if err != nil {
			refuse(w, http.StatusConflict, err.Error())
			return
		}
		reply(w, http.StatusOK, map[string]any{"view": view, "pause_ns": int64(pause)})
	})
	mux.HandleFunc("POST /mode", r.serveMode)
	mux.HandleFunc("POST /leave", func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		mem := r.member
		r.mu.Unlock()
		if mem == nil {
			refuse(w, http.StatusConflict, "not a member of a group with a view service")
			return
		}
		mem.pinger.Leave(q.URL.Query().Get("on") != "0")
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, text string) {
	reply(w, status, map[string]string{"error": text})
}

func (r *Replica) serveMode(w http.ResponseWriter, q *http.Request) {
	m, err := ParseMode(q.URL.Query().Get("mode"), q.URL.Query().Get("epoch"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if role := replica.Role(r.role.Load()); role != replica.Primary {
		refuse(w, http.StatusConflict, "not the primary but "+role.String())
		return
	}
	ctx, cancel := context.WithTimeout(q.Context(), modeTimeout)
	defer cancel()
	if err := r.SetMode(ctx, m); err != nil {
		refuse(w, http.StatusConflict, err.Error())
		return
	}
	reply(w, http.StatusOK, map[string]any{"mode": m.Following.String(), "epoch_ns": m.EpochNs})
}

// modeTimeout bounds a change of mode: it waits for the guest's disk requests.
const modeTimeout = 10 * time.Second

// ParseMode reads a mode of protection, lockstep or checkpoint, and the length of its epochs as a duration; none
// leaves the length to load and outputs.
func ParseMode(mode, epoch string) (event.Mode, error) {
	var m event.Mode
	switch mode {
	case "", "lockstep":
	case "checkpoint":
		m.Following = event.Checkpoint
	default:
		return m, fmt.Errorf("mode %q: want lockstep or checkpoint", mode)
	}
	if epoch == "" {
		return m, nil
	}
	d, err := time.ParseDuration(epoch)
	switch {
	case err != nil || d < minEpoch || d > maxEpoch:
		return m, fmt.Errorf("epoch %q: want a duration of %v to %v", epoch, minEpoch, maxEpoch)
	case m.Following == event.Lockstep:
		return m, fmt.Errorf("epoch %q: lockstep mode has no epochs", epoch)
	}
	m.EpochNs = uint64(d)
	return m, nil
}

func (r *Replica) serveConsole(w http.ResponseWriter, q *http.Request) {
	from := int64(0)
	if s := q.URL.Query().Get("from"); s != "" {
		var err error
		if from, err = strconv.ParseInt(s, 10, 64); err != nil {
			refuse(w, http.StatusBadRequest, "from: want an offset in bytes")
			return
		}
	}
	follow := q.URL.Query().Get("follow") != "" && q.URL.Query().Get("follow") != "0"
	flush, _ := w.(http.Flusher)
	for first, last := true, false; ; first = false {
		p, at, more := r.said.read(from)
		if !first && at != from {
			return // too slow: what is in between is forgotten. The client may ask anew and is told where that begins
		}
		if first {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("X-Offset", strconv.FormatInt(at, 10))
		}
		if _, err := w.Write(p); err != nil {
			return
		}
		if !follow || last {
			return
		}
		if flush != nil {
			flush.Flush()
		}
		from = at + int64(len(p))
		select {
		case <-more:
		case <-q.Context().Done():
			return
		case <-r.runCtx.Done():
			last = true // once more: the guest's last words may just have come
		}
	}
}

func (r *Replica) serveType(w http.ResponseWriter, q *http.Request) {
	n := machine.ConsoleSerial
	if s := q.URL.Query().Get("n"); s != "" {
		i, err := strconv.Atoi(s)
		if err != nil || i != machine.ConsoleSerial && i != machine.ConsoleVirtio {
			refuse(w, http.StatusBadRequest, "n: want 0 for the serial console or 1 for the virtio console")
			return
		}
		n = i
	}
	p, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxTypedBytes))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, err.Error())
		return
	}
	if role := replica.Role(r.role.Load()); role != replica.Primary {
		refuse(w, http.StatusConflict, "not the primary but "+role.String())
		return
	}
	r.Input(uint8(n), p)
	w.WriteHeader(http.StatusNoContent)
}
