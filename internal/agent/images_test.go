package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestProvideImage(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	_, err := provideImage(t.Context(), "none", func(string, float64) {})
	if err == nil || !strings.Contains(err.Error(), "is not on this host") || !strings.Contains(words(err), "redis, shell") {
		t.Errorf("no such image: %v", err)
	}

	// Two that build one after the other: the second says that it waits, and may be called off.
	unlock, err := lockBuilds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan string, 1)
	result := make(chan error)
	go func() {
		_, err := provideImage(ctx, "redis", func(text string, _ float64) { waits <- text })
		result <- err
	}()
	if text := <-waits; !strings.Contains(text, "waits for another build") {
		t.Errorf("told %q", text)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
}

func TestBuildProgress(t *testing.T) {
	var text string
	b := &buildProgress{name: "redis", tell: func(s string, done float64) {
		if text = s; done >= 0 {
			t.Errorf("%v of an unknown whole", done)
		}
	}}
	b.Start("kernel.deb", 100)
	second := b.Start("redis.deb", -1)
	second.Add(2_000_000)
	second.Done()
	second.Done()
	if text != "builds image redis: 1 of 2 or more items, 2.0 MB; redis.deb" {
		t.Error(text)
	}
	b.Note("packs")
	if text != "builds image redis: packs" {
		t.Error(text)
	}
}
