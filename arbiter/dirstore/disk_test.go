package dirstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"understudy/arbiter"
	"understudy/arbiter/arbitertest"
	"understudy/arbiter/dirstore"
)

// playSmallDisk runs in a mount namespace of its own: it mounts a file system of a few pages on args[0], fills it
// with claims, makes room, makes it read-only.
func playSmallDisk(args []string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot mount: %w", err)
	}
	if err := syscall.Mount("small", args[0], "tmpfs", 0, "size=64k"); err != nil {
		return fmt.Errorf("cannot mount: %w", err)
	}
	ctx := context.Background()
	s, err := dirstore.Open(args[0], dirstore.Options{Create: true})
	if err != nil {
		return err
	}
	var last uint64
	for n := uint64(1); n <= 3; n++ {
		if _, won, err := s.CompareAndSet(ctx, "g", one(n)); !won || err != nil {
			return fmt.Errorf("claim %d: %t, %w", n, won, err)
		}
		last = n
	}
	ballast := filepath.Join(args[0], ".ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the disk is not full: %w", err)
	}
	for _, group := range []string{"g", "new"} {
		next := one(last + 1)
		if group == "new" {
			next = one(1)
		}
		_, won, err := s.CompareAndSet(ctx, group, next)
		fmt.Println("full:", err)
		if won || !errors.Is(err, arbiter.ErrUnreachable) || !errors.Is(err, dirstore.ErrFull) {
			return fmt.Errorf("full disk, group %s: %t, %w", group, won, err)
		}
	}
	if got, err := s.Get(ctx, "g"); err != nil || got != one(last) {
		return fmt.Errorf("get from the full disk: %+v, %w", got, err)
	}
	if _, err := dirstore.Open(args[0], dirstore.Options{}); !errors.Is(err, dirstore.ErrFull) {
		return fmt.Errorf("open on the full disk: %w", err)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	if _, won, err := s.CompareAndSet(ctx, "g", one(last+1)); !won || err != nil {
		return fmt.Errorf("claim when there is room again: %t, %w", won, err)
	}
	if err := syscall.Mount("small", args[0], "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("remount: %w", err)
	}
	_, won, err := s.CompareAndSet(ctx, "g", one(last+2))
	fmt.Println("read-only:", err)
	if won || !errors.Is(err, arbiter.ErrUnreachable) || !errors.Is(err, dirstore.ErrReadOnly) {
		return fmt.Errorf("claim in a read-only directory: %t, %w", won, err)
	}
	if got, err := s.Get(ctx, "g"); err != nil || got != one(last+1) {
		return fmt.Errorf("get from a read-only directory: %+v, %w", got, err)
	}
	if _, err := dirstore.Open(args[0], dirstore.Options{}); !errors.Is(err, dirstore.ErrReadOnly) {
		return fmt.Errorf("open in a read-only directory: %w", err)
	}
	return nil
}

func TestFullAndReadOnlyDirectory(t *testing.T) {
	cmd := arbitertest.Part("small disk", t.TempDir())
	cmd.Stderr = nil
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if errors.Is(err, syscall.EPERM) || strings.Contains(out.String(), "cannot mount") {
		t.Skipf("no mount namespace here: %v %s", err, out.String())
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	t.Log(out.String())
}

func TestUnwritableDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; TestFullAndReadOnlyDirectory has a read-only mount")
	}
	dir := t.TempDir()
	open(t, dir)
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := dirstore.Open(dir, dirstore.Options{}); !errors.Is(err, dirstore.ErrReadOnly) {
		t.Errorf("%v", err)
	}
}
