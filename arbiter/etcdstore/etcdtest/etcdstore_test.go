package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"understudy/arbiter"
	"understudy/arbiter/arbitertest"
	"understudy/arbiter/etcdstore"
	"understudy/arbiter/open"
)

func open1(t testing.TB, prefix string, o etcdstore.Options, members ...member) *etcdstore.Store {
	t.Helper()
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, m.client)
	}
	o.Prefix = prefix
	s, err := etcdstore.New(endpoints, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// raw returns etcd's own client.
func raw(t testing.TB, m member) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + m.client}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func one(n uint64) arbiter.Record {
	return arbiter.Record{Number: n, Primary: "a", Backup: "b", Claimant: "x"}
}

func claim(t testing.TB, r arbiter.Register, n uint64) {
	t.Helper()
	if cur, won, err := r.CompareAndSet(t.Context(), "g", one(n)); !won || err != nil || cur != one(n) {
		t.Fatalf("claim %d: %+v, %t, %v", n, cur, won, err)
	}
}

func TestRegister(t *testing.T) {
	m, _ := start(t, nil)
	slow := etcdstore.Options{Timeout: 20 * time.Second}
	var stores atomic.Int64
	fresh := func() string { return fmt.Sprintf("/test/%d", stores.Add(1)) }
	arbitertest.Run(t, arbitertest.Suite{
		Rounds: arbitertest.Rounds(50, 300),
		Open:   func(t *testing.T) arbiter.Register { return open1(t, fresh(), slow, m) },
		Pair: func(t *testing.T) (a, b arbiter.Register) {
			prefix := fresh()
			return open1(t, prefix, slow, m), open1(t, prefix+"/", slow, m)
		},
	})
}

func TestKilledEtcdAndKilledClaimants(t *testing.T) {
	members, _, restart := cluster(t, 1)
	s := open1(t, "/race", etcdstore.Options{Timeout: time.Second}, members...)
	answers(t, s)
	arbitertest.Race(t, arbitertest.Shared{
		URL:     "etcd://" + members[0].client + "/race",
		Rounds:  arbitertest.Rounds(150, 500),
		Restart: func() { restart(0) },
	})
}

// answers waits until the store does.
func answers(t testing.TB, s arbiter.Register) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if err = open.Warm(t.Context(), s); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal(err)
}

// One of three members alone answers nothing: neither what it knew, nor a claim.
func TestLostQuorum(t *testing.T) {
	members, kill, restart := cluster(t, 3)
	all := open1(t, "", etcdstore.Options{}, members...)
	answers(t, all)
	left := open1(t, "", etcdstore.Options{Timeout: time.Second}, members[2])
	answers(t, left)
	claim(t, all, 1)
	watch := make(chan error, 1)
	go func() {
		_, err := left.Watch(t.Context(), "g", 1)
		watch <- err
	}()
	kill(0)
	// Two of three go on, after an election if need be.
	for {
		cur, won, err := all.CompareAndSet(t.Context(), "g", one(1))
		if err == nil && won && cur == one(1) {
			break
		}
		if !errors.Is(err, arbiter.ErrUnreachable) || t.Context().Err() != nil {
			t.Fatal(cur, won, err)
		}
	}
	kill(1)
	for _, s := range []arbiter.Register{all, left} {
		_, err := s.Get(t.Context(), "g")
		if !errors.Is(err, arbiter.ErrUnreachable) || !errors.Is(err, etcdstore.ErrNoAnswer) {
			t.Errorf("get without a quorum: %v", err)
		}
		t.Log(err)
		begun := time.Now()
		if _, won, err := s.CompareAndSet(t.Context(), "g", one(2)); won || !errors.Is(err, etcdstore.ErrNoAnswer) {
			t.Errorf("claim without a quorum: %t, %v", won, err)
		}
		if took := time.Since(begun); took > 4*time.Second {
			t.Errorf("the error took %s", took)
		}
	}
	select {
	case err := <-watch:
		if !errors.Is(err, arbiter.ErrUnreachable) {
			t.Error(err)
		}
		t.Log(err)
	case <-time.After(30 * time.Second):
		t.Error("the watch of a member without a quorum goes on")
	}
	restart(0)
	restart(1)
	answers(t, all)
	if got, err := all.Get(t.Context(), "g"); err != nil || got.Number > 2 || got != one(got.Number) {
		t.Errorf("%+v, %v", got, err)
	}
	for { // the claim that was not answered, again
		cur, won, err := all.CompareAndSet(t.Context(), "g", one(2))
		if err == nil {
			if !won || cur != one(2) {
				t.Errorf("%+v, %t", cur, won)
			}
			break
		}
		if !errors.Is(err, arbiter.ErrUnreachable) {
			t.Fatal(err)
		}
	}
	for {
		if got, err := left.Get(t.Context(), "g"); err == nil {
			if got != one(2) {
				t.Errorf("%+v", got)
			}
			break
		}
	}
}

func TestKeys(t *testing.T) {
	m, _ := start(t, nil)
	c := raw(t, m)
	s := open1(t, "", etcdstore.Options{}, m)
	claim(t, s, 1)
	claim(t, s, 2)
	resp, err := c.Get(t.Context(), "", clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatal(resp, err)
	}
	kv := resp.Kvs[0]
	if string(kv.Key) != "/understudy/arbiter/g" || kv.Lease != 0 || kv.Version != 2 {
		t.Errorf("%v", kv)
	}
	// A claim that loses, or is repeated, writes nothing.
	if _, won, err := s.CompareAndSet(t.Context(), "g", arbiter.Record{Number: 2, Primary: "b", Claimant: "y"}); won || err != nil {
		t.Error(won, err)
	}
	claim(t, s, 2)
	if again, err := c.Get(t.Context(), string(kv.Key)); err != nil || again.Kvs[0].ModRevision != kv.ModRevision {
		t.Error(again, err)
	}
	if _, err := c.Put(t.Context(), "/understudy/arbiter/of/another", "x"); err != nil {
		t.Fatal(err)
	}
	if all, err := s.All(t.Context()); err != nil || len(all) != 1 || all["g"] != one(2) {
		t.Error(all, err)
	}
	for name, value := range map[string]string{
		"empty": "", "garbage": "garbage", "null": "null", "half": string(kv.Value[:20]), "no primary": `{"number":3,"claimant":"x"}`, "long": strings.Repeat(" ", 1<<20),
	} {
		if _, err := c.Put(t.Context(), string(kv.Key), value); err != nil {
			t.Fatal(err)
		}
		if rec, err := s.Get(t.Context(), "g"); !errors.Is(err, arbiter.ErrUnreachable) || !errors.Is(err, etcdstore.ErrCorrupt) || rec != (arbiter.Record{}) {
			t.Errorf("%s: get: %+v, %v", name, rec, err)
		}
		for n := uint64(1); n <= 3; n++ {
			if _, won, err := s.CompareAndSet(t.Context(), "g", one(n)); won || !errors.Is(err, etcdstore.ErrCorrupt) {
				t.Errorf("%s: claim %d: %t, %v", name, n, won, err)
			}
		}
		if _, err := s.Watch(t.Context(), "g", 0); !errors.Is(err, etcdstore.ErrCorrupt) {
			t.Errorf("%s: watch: %v", name, err)
		}
	}
}

// A watch begins at the revision of its read, which etcd may have compacted away, and goes on over other keys.
func TestWatchAfterCompaction(t *testing.T) {
	m, _ := start(t, nil)
	c := raw(t, m)
	s := open1(t, "", etcdstore.Options{}, m)
	claim(t, s, 1)
	for i := range 50 {
		resp, err := c.Put(t.Context(), "other", fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Compact(t.Context(), resp.Header.Revision); err != nil {
			t.Fatal(err)
		}
	}
	told := make(chan arbiter.Record, 1)
	go func() {
		rec, err := s.Watch(t.Context(), "g", 1)
		if err != nil {
			t.Error(err)
		}
		told <- rec
	}()
	claim(t, s, 2)
	if rec := <-told; rec != one(2) {
		t.Errorf("%+v", rec)
	}
}

func BenchmarkClaim(b *testing.B) {
	m, _ := start(b, nil)
	s := open1(b, "", etcdstore.Options{}, m)
	answers(b, s)
	arbitertest.BenchmarkClaim(b, s)
}

func BenchmarkClaimThreeMembers(b *testing.B) {
	members, _, _ := cluster(b, 3)
	s := open1(b, "", etcdstore.Options{Timeout: 20 * time.Second}, members...)
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	for open.Warm(ctx, s) != nil && ctx.Err() == nil {
	}
	arbitertest.BenchmarkClaim(b, s)
}
