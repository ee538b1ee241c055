package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// prepare makes all that a life needs, and gives its number. It gives up when the assignment changes.
func (k *keeper) prepare(ctx context.Context, j *job) (life, int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		l   life
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		l, n, err := k.makeLife(ctx, j)
		done <- result{l, n, err}
	}()
	for {
		select {
		case r := <-done:
			return r.l, r.n, r.err
		case <-k.poke:
			if !k.goesOn(j) {
				cancel()
				r := <-done
				return r.l, r.n, errors.Join(r.err, context.Canceled)
			}
		}
	}
}

func (k *keeper) makeLife(ctx context.Context, j *job) (life, int, error) {
	if len(j.views) == 0 || j.arbiter == "" {
		return life{}, 0, errors.New("control named no view service or no arbiter")
	}
	if err := j.check(); err != nil {
		return life{}, 0, err
	}
	s := k.store
	// A group is founded once. A founder that died may have founded it: nobody can tell by looking at this host.
	founding := j.GetFound() && s.rec.Found != j.GetGroup()
	var im bootImage
	if founding {
		k.tell(j, "image")("looks for image "+j.GetSpec().GetImage(), -1)
		var err error
		if im, err = k.a.opt.images(ctx, j.GetSpec().GetImage(), k.tell(j, "image")); err != nil {
			return life{}, 0, err
		}
	}
	if err := k.a.room.take(k.id, k.memory(j, im)); err != nil {
		return life{}, 0, err
	}
	n := s.rec.Lives + 1
	again := founding && s.rec.Kept != nil
	if again {
		n = s.rec.Kept.Life // the machine starts anew from its disks
	}
	if err := s.tidy(n); err != nil {
		return life{}, 0, err
	}
	l := life{stateDir: s.life(n), socket: s.socket(), founding: founding, image: im.dir}
	if !again {
		if err := os.RemoveAll(l.stateDir); err != nil {
			return life{}, 0, fmt.Errorf("remove a life's leftovers: %w", err)
		}
	}
	if err := os.MkdirAll(l.stateDir, 0o700); err != nil {
		return life{}, 0, k.full(fmt.Errorf("make the replica's directory: %w", err))
	}
	if founding {
		if !again {
			if err := k.makeDisks(ctx, j, im, l.stateDir); err != nil {
				return life{}, 0, k.full(err)
			}
		}
		l.disks = disksIn(l.stateDir)
	}
	r := s.rec
	r.Lives = max(r.Lives, n)
	if founding {
		r.Found = j.GetGroup()
	}
	if err := s.save(r); err != nil {
		return life{}, 0, k.full(err)
	}
	return l, n, ctx.Err()
}

// makeDisks makes the machine's disks: copies of the image's, then the volumes.
func (k *keeper) makeDisks(ctx context.Context, j *job, im bootImage, dir string) error {
	volumes := j.GetSpec().GetVolumes()
	all := im.disks + len(volumes)
	for i := range im.disks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		k.tell(j, "disk")(fmt.Sprintf("makes disk %d of %d", i+1, all), float64(i)/float64(all))
		if err := im.createDisk(i, diskPath(dir, i)); err != nil {
			return fmt.Errorf("make disk %d: %w", i, err)
		}
	}
	for i, v := range volumes {
		if err := makeVolume(diskPath(dir, im.disks+i), int64(v.GetSizeBytes())); err != nil {
			return fmt.Errorf("make volume %s: %w", v.GetName(), err)
		}
	}
	return syncDir(dir)
}

func makeVolume(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

func diskPath(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("disk%d.raw", i)) }

// memory is what the guest will take of this host. Where the machine names no size and its image is not here, the
// replica will learn the size only from its primary.
func (k *keeper) memory(j *job, im bootImage) uint64 {
	if n := j.GetSpec().GetMemBytes(); n != 0 {
		return n
	}
	if im.memBytes != 0 {
		return im.memBytes
	}
	if found, err := findImage(j.GetSpec().GetImage()); err == nil && found.MemBytes != 0 {
		return found.MemBytes
	}
	return defaultMemBytes
}

// full adds to an error of a full disk what to do about it.
func (k *keeper) full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return withTry(err, "free space in %s on host %s", k.a.opt.Dir, k.a.opt.Name)
	}
	return err
}

// tell gives a place for lines about a step before the replica runs.
func (k *keeper) tell(j *job, step string) tell {
	return func(text string, done float64) {
		k.update(func(c *condition) { c.progress = &progressLine{step: step, text: text, done: done} })
	}
}
