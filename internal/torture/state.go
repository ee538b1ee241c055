package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"
)

// replicaState is what a replica says of itself; see docs/formats.md, status.
type replicaState struct {
	Incarnation string `json:"incarnation"`
	Role        string `json:"role"`
	View        uint64 `json:"view"`
	Solo        bool   `json:"solo"`
	InSync      bool   `json:"in_sync"`
	Frozen      string `json:"frozen"`

	raw json.RawMessage // all that it says
}

// states are what the replicas of the hosts said just now; one that does not answer is missing.
type states map[string]replicaState

// place is a view, seen from outside.
type place struct {
	View            uint64
	Primary, Backup string
}

func (p place) String() string {
	if p.View == 0 {
		return "-"
	}
	if p.Backup == "" {
		return fmt.Sprintf("%d %s/-", p.View, p.Primary)
	}
	return fmt.Sprintf("%d %s/%s", p.View, p.Primary, p.Backup)
}

// place is the newest view in which a replica is primary, with its backup if that is in sync.
func (s states) place() (p place, protected bool) {
	for name, r := range s {
		if r.Role == "primary" && r.View > p.View {
			p = place{View: r.View, Primary: name}
		}
	}
	if p.View == 0 || s[p.Primary].Solo || !s[p.Primary].InSync || s[p.Primary].Frozen != "" {
		return p, false
	}
	for name, r := range s {
		if r.Role == "backup" && r.View == p.View {
			p.Backup = name
		}
	}
	return p, p.Backup != ""
}

// host is the name of the host that has a role.
func (p place) host(r Role) string {
	switch r {
	case Primary:
		return p.Primary
	case Backup:
		return p.Backup
	}
	for _, n := range hostNames {
		if n != p.Primary && n != p.Backup {
			return n
		}
	}
	return ""
}

// statusTimeout is how long a replica may take to say how it is.
const statusTimeout = time.Second

// states asks all replicas how they are.
func (f *fleet) states(ctx context.Context) states {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var (
		mu  sync.Mutex
		all = states{}
		wg  sync.WaitGroup
	)
	for _, name := range hostNames {
		wg.Go(func() {
			sockets, _ := filepath.Glob(filepath.Join(f.hostDir(name), "machines", "*", "status"))
			for _, s := range sockets {
				if r, err := askReplica(ctx, s); err == nil {
					mu.Lock()
					all[name] = r
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return all
}

func askReplica(ctx context.Context, socket string) (r replicaState, err error) {
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://replica/status", nil)
	if err != nil {
		return r, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	if err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&r.raw); err != nil {
		return r, err
	}
	raw := r.raw
	err = json.Unmarshal(raw, &r)
	return r, err
}
