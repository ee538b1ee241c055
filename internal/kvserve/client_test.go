package kvserve

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestClientsLookAtEachOther: a connection may be listed and killed by others while it changes what they see.
func TestClientsLookAtEachOther(t *testing.T) {
	g := newGroup(t)
	a := g.start("a")
	g.want("a", "")
	ctx := t.Context()
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			r := redis.NewClient(&redis.Options{Addr: a.addr, DisableIdentity: true, PoolSize: 1})
			defer r.Close()
			for i := range 50 {
				name := fmt.Sprintf("w%d-%d", w, i)
				for _, words := range [][]any{{"client", "setname", name}, {"client", "list"}, {"reset"}, {"hello", 3, "setname", name}, {"select", w}, {"multi"}, {"reset"}} {
					if err := r.Do(ctx, words...).Err(); err != nil {
						t.Errorf("%s: %v", words, err)
						return
					}
				}
			}
		})
	}
	killer := redis.NewClient(&redis.Options{Addr: a.addr})
	defer killer.Close()
	for range 50 {
		victim := redis.NewClient(&redis.Options{Addr: a.addr, DisableIdentity: true, PoolSize: 1, ClientName: "victim", MaxRetries: -1})
		id, err := victim.ClientID(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		if list, err := killer.ClientList(ctx).Result(); err != nil || !strings.Contains(list, fmt.Sprintf("id=%d ", id)) || !strings.Contains(list, " name=victim ") {
			t.Fatalf("%s, %v", list, err)
		}
		if n, err := killer.ClientKillByFilter(ctx, "ID", fmt.Sprint(id)).Result(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		// The client may notice before it sends anything, and connect again: as another.
		if again, err := victim.ClientID(ctx).Result(); err == nil && again == id {
			t.Errorf("killed client %d is answered", id)
		}
		victim.Close()
	}
	all.Wait()
}

func TestMemoryValues(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "100": 100, "1b": 1, "3k": 3000, "3KB": 3072, "2m": 2e6, "2Mb": 2 << 20, "1g": 1e9, "1gb": 1 << 30,
		"": -1, "x": -1, "-1": -1, "1kk": -1, "1.5gb": -1, "b": -1, "10tb": -1, "9223372036854775807": -1, "9999999999gb": -1,
	} {
		if got, ok := memoryValue(text); ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
}
