package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"understudy/internal/image"
	"understudy/internal/image/progress"
)

// tell takes a line about work under way and how much of it is done, 0 to 1, negative if that is not known.
type tell func(text string, done float64)

// bootImage is an image that is on this host.
type bootImage struct {
	dir      string
	memBytes uint64 // that it runs well with
	disks    int
	// createDisk writes the first content of disk i to a new file.
	createDisk func(i int, path string) error
}

func fromImage(im *image.Image) bootImage {
	return bootImage{dir: im.Dir, memBytes: im.MemBytes, disks: len(im.Disks), createDisk: im.CreateDisk}
}

// provideImage finds an image, or builds it if there is a recipe of that name.
func provideImage(ctx context.Context, name string, tell tell) (bootImage, error) {
	im, err := findImage(name)
	if err == nil {
		return fromImage(im), nil
	}
	recipe, noRecipe := image.FindRecipe(name)
	if noRecipe != nil {
		if errors.Is(err, image.ErrNoImage) {
			return bootImage{}, withTry(fmt.Errorf("image %q is not on this host, and there is no recipe of that name", name),
				"copying the image's directory to this host, or an image of: %s", recipeNames())
		}
		return bootImage{}, err
	}
	// Hosts that share a cache do not build the same image at the same time.
	tell("waits for another build of an image", -1)
	unlock, err := lockBuilds(ctx)
	if err != nil {
		return bootImage{}, err
	}
	defer unlock()
	im, err = image.Build(ctx, recipe, image.BuildOptions{}, &buildProgress{name: name, tell: tell})
	if err != nil {
		return bootImage{}, err
	}
	return fromImage(im), nil
}

// findImage opens an image that is there.
func findImage(name string) (*image.Image, error) {
	dir, err := image.Find(name)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	return image.Open(dir)
}

func recipeNames() string {
	names := ""
	for i, r := range image.Recipes() {
		if i > 0 {
			names += ", "
		}
		names += r.Name
	}
	return names
}

// lockBuilds takes the lock of all builds into this user's cache.
func lockBuilds(ctx context.Context) (unlock func(), err error) {
	dir, err := image.DefaultDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the image cache: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the image cache: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock the image cache: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// buildProgress turns the items of a build into one line. How many items will come is not known to the build either.
type buildProgress struct {
	name string
	tell tell

	mu             sync.Mutex
	started, ended int
	bytes          int64
	last           string
}

// Start counts an item.
func (b *buildProgress) Start(name string, totalBytes int64) progress.Task {
	b.mu.Lock()
	b.started++
	b.last = name
	b.mu.Unlock()
	b.show()
	return &buildTask{build: b}
}

// Note tells a line.
func (b *buildProgress) Note(line string) {
	b.tell(fmt.Sprintf("builds image %s: %s", b.name, line), -1)
}

func (b *buildProgress) show() {
	b.mu.Lock()
	text := fmt.Sprintf("builds image %s: %d of %d or more items, %s; %s", b.name, b.ended, b.started, progress.Bytes(b.bytes), b.last)
	b.mu.Unlock()
	b.tell(text, -1)
}

type buildTask struct {
	build *buildProgress
	once  sync.Once
}

// Add counts bytes.
func (t *buildTask) Add(n int64) {
	t.build.mu.Lock()
	t.build.bytes += n
	t.build.mu.Unlock()
}

// Done ends the item.
func (t *buildTask) Done() {
	t.once.Do(func() {
		t.build.mu.Lock()
		t.build.ended++
		t.build.mu.Unlock()
		t.build.show()
	})
}
