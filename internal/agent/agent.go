package agent

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "understudy/api/understudy/v1"
)

// eventsMax bounds the events that wait for control; the oldest are lost.
const eventsMax = 1000

// Agent is the host process of one machine.
type Agent struct {
	opt         Options
	incarnation string
	lock        *os.File
	starter     *starter
	room        room
	report      chan struct{} // something is to be reported at once

	mu        sync.Mutex
	keepers   map[string]*keeper // by machine's id
	refused   []*pb.HostProgress // assignments of the newest list that make no sense
	events    []*pb.Event
	lost      int  // events dropped
	listed    bool // a list has come since the start
	drain     bool
	connected string // address of control, empty: none
	runCtx    context.Context
	running   sync.WaitGroup
}

// New takes the host's directory. Close or Run gives it back.
func New(o Options) (*Agent, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	a := &Agent{opt: o, lock: lock, starter: newStarter(), report: make(chan struct{}, 1), keepers: map[string]*keeper{}}
	a.room.limit = o.MemBytes
	random := make([]byte, 6)
	rand.Read(random)
	a.incarnation = hex.EncodeToString(random)
	return a, nil
}

// Close gives the directory back. Run does it too.
func (a *Agent) Close() {
	a.starter.close()
	a.lock.Close()
}

// Run serves until the context ends; then it ends all replicas, reports that, and returns the context's error.
func (a *Agent) Run(ctx context.Context) error {
	defer a.Close()
	ids, err := machinesIn(a.opt.Dir)
	if err != nil {
		return err
	}
	for _, id := range ids {
		// Its process died with the agent that started it.
		_ = os.Remove(filepath.Join(a.opt.Dir, "machines", id, "status"))
	}
	keepCtx, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopKeeping()
	a.mu.Lock()
	a.runCtx = keepCtx
	a.mu.Unlock()

	ln := a.opt.Listener
	if a.opt.Identity != nil {
		ln = tls.NewListener(ln, serverTLS(a.opt.Identity))
	}
	srv := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: 5 * time.Second, ErrorLog: quietLog(a.opt.Log)}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()

	talkCtx, stopTalking := context.WithCancel(context.WithoutCancel(ctx))
	talked := make(chan struct{})
	go func() {
		defer close(talked)
		a.talk(talkCtx)
	}()

	select {
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-served:
		err = fmt.Errorf("serve the host's API: %w", err)
	}
	a.opt.Log.Info("host ends its replicas")
	stopKeeping()
	a.mu.Lock()
	a.runCtx = nil // nothing begins any more
	a.mu.Unlock()
	a.running.Wait()
	a.lastReport()
	stopTalking()
	<-talked
	_ = srv.Close()
	return err
}

// apply takes a list of everything that this host is to do.
func (a *Agent) apply(list *pb.WorkList) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.runCtx == nil {
		return
	}
	if list.GetDrain() != a.drain {
		a.drain = list.GetDrain()
		a.opt.Log.Info("drain", "on", a.drain)
	}
	if !a.listed {
		a.listed = true
		ids, err := machinesIn(a.opt.Dir)
		if err != nil {
			a.opt.Log.Error("cannot look for machines of a former life", "err", err)
		}
		for _, id := range ids {
			a.keepLocked(id, nil) // removed below, unless the list has it
		}
	}
	wanted := map[string]*job{}
	a.refused = nil
	for _, as := range list.GetAssignments() {
		j := &job{Assignment: as, views: list.GetViewUrls(), arbiter: list.GetArbiterUrl()}
		if !validID.MatchString(as.GetId()) || wanted[as.GetId()] != nil {
			err := fmt.Errorf("control's assignment of group %q has no id of its own: %q", as.GetGroup(), as.GetId())
			a.refused = append(a.refused, &pb.HostProgress{Group: as.GetGroup(), Step: "start", Text: err.Error(), Done: -1, Error: err.Error()})
			continue
		}
		wanted[as.GetId()] = j
	}
	for id, j := range wanted {
		a.keepLocked(id, j)
	}
	for id, k := range a.keepers {
		if wanted[id] == nil {
			k.want(nil)
		}
	}
	for _, k := range a.keepers {
		k.startOnce.Do(func() {
			a.running.Add(1)
			ctx := a.runCtx
			go func() {
				defer a.running.Done()
				k.run(ctx)
			}()
		})
	}
}

func (a *Agent) keepLocked(id string, j *job) {
	k := a.keepers[id]
	if k == nil {
		k = newKeeper(a, id)
		a.keepers[id] = k
	}
	if j != nil {
		k.want(j)
	}
}

// forget drops a keeper whose machine is removed; it does not if the machine is wanted again.
func (a *Agent) forget(k *keeper) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k.wanted() != nil {
		return false
	}
	delete(a.keepers, k.id)
	a.changed()
	return true
}

// all lists the keepers by id.
func (a *Agent) all() []*keeper {
	a.mu.Lock()
	defer a.mu.Unlock()
	ks := make([]*keeper, 0, len(a.keepers))
	for _, k := range a.keepers {
		ks = append(ks, k)
	}
	slices.SortFunc(ks, func(x, y *keeper) int { return strings.Compare(x.id, y.id) })
	return ks
}

// wakeAll has all keepers look again.
func (a *Agent) wakeAll() {
	for _, k := range a.all() {
		k.wake()
	}
}

// changed has a report sent at once.
func (a *Agent) changed() {
	select {
	case a.report <- struct{}{}:
	default:
	}
}

// event notes what happened, for control.
func (a *Agent) event(kind, machine string, view uint64, text string) {
	e := &pb.Event{At: timestamppb.Now(), Kind: kind, Machine: machine, Host: a.opt.Name, View: view, Text: text}
	a.mu.Lock()
	a.events = append(a.events, e)
	if over := len(a.events) - eventsMax; over > 0 {
		a.events = slices.Delete(a.events, 0, over)
		a.lost += over
	}
	a.mu.Unlock()
	a.changed()
}

// errNoReplica reports a group that this host knows nothing of.
var errNoReplica = errors.New("this host has no replica of that group")

// childOf gives the running replica of a group.
func (a *Agent) childOf(group string) (*child, error) {
	err := errNoReplica
	for _, k := range a.all() {
		k.mu.Lock()
		g, ch, why := k.cond.group, k.ch, k.cond.err
		k.mu.Unlock()
		if g != group {
			continue
		}
		if ch != nil {
			return ch, nil
		}
		err = &notRunning{orElse(why, "it is not running")}
	}
	return nil, err
}

// tailOf gives what is kept of the console of a group that runs nowhere any more: it was stopped, or its guest has ended.
func (a *Agent) tailOf(group string) (*consoleTail, bool) {
	for _, k := range a.all() {
		k.mu.Lock()
		is := k.cond.group == group && k.ch == nil && (k.cond.ended || k.wish.GetStopped())
		k.mu.Unlock()
		if is {
			return &k.tail, true
		}
	}
	return nil, false
}

// notRunning reports a replica without a process.
type notRunning struct{ why string }

func (e *notRunning) Error() string { return "the replica cannot answer: " + e.why }
