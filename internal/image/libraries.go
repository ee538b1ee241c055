package image

import (
	"bytes"
	"debug/elf"
	"fmt"
	"path"
	"slices"
	"strings"

	"understudy/internal/image/debian"
)

// pool is what the packages of a recipe offer, by path.
type pool map[string]debian.File

// resolve follows symbolic links within the pool. It gives the path of the file itself.
func (p pool) resolve(name string) (string, debian.File, bool) {
	for range 8 {
		f, ok := p[name]
		if !ok {
			return "", debian.File{}, false
		}
		if f.Link == "" {
			return name, f, !f.IsDir
		}
		if strings.HasPrefix(f.Link, "/") {
			name = strings.TrimPrefix(path.Clean(f.Link), "/")
		} else {
			name = strings.TrimPrefix(path.Join("/", path.Dir(name), f.Link), "/")
		}
		name = mergedUsr(name)
	}
	return "", debian.File{}, false
}

// mergedUsr maps /bin, /lib and /sbin into /usr, as Debian's root file system does.
func mergedUsr(name string) string {
	if first, _, _ := strings.Cut(name, "/"); slices.Contains([]string{"bin", "lib", "lib64", "sbin"}, first) {
		return "usr/" + name
	}
	return name
}

// libraryDirs is where the dynamic linker looks on Debian's riscv64.
var libraryDirs = []string{"usr/lib/riscv64-linux-gnu", "usr/lib"}

// closure adds to t the programs and everything they are linked with: interpreter and shared libraries, links and all.
// What a program loads by dlopen is not seen; the recipe names it.
func (p pool) closure(t tree, programs []string) error {
	done := map[string]bool{}
	var visit func(name, by string) error
	visit = func(name, by string) error {
		name = mergedUsr(strings.TrimPrefix(name, "/"))
		if done[name] {
			return nil
		}
		done[name] = true
		target, f, ok := p.resolve(name)
		if !ok {
			return fmt.Errorf("%s, which %s needs, is in none of the packages", name, by)
		}
		if target != name {
			t.link(name, relative(name, target))
		}
		if done[target] && target != name {
			return nil
		}
		done[target] = true
		t.file(target, f.Data, uint64(f.Mode))
		needs, err := linkedWith(f.Data)
		if err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
		for _, need := range needs {
			if !strings.Contains(need, "/") {
				soname := need
				for _, dir := range libraryDirs {
					if _, _, ok := p.resolve(dir + "/" + soname); ok {
						need = dir + "/" + soname
						break
					}
				}
			}
			if err := visit(need, target); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range programs {
		if err := visit(name, "the recipe"); err != nil {
			return err
		}
	}
	return nil
}

// relative gives the link text that leads from the link's place to target.
func relative(link, target string) string {
	from, to := strings.Split(path.Dir(link), "/"), strings.Split(target, "/")
	if from[0] == "." {
		from = nil
	}
	for len(from) > 0 && len(to) > 1 && from[0] == to[0] {
		from, to = from[1:], to[1:]
	}
	return strings.Repeat("../", len(from)) + strings.Join(to, "/")
}

// linkedWith lists an ELF file's interpreter and needed libraries; nothing for other files (scripts).
func linkedWith(data []byte) ([]string, error) {
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return nil, nil
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read ELF file: %w", err)
	}
	if f.Machine != elf.EM_RISCV || f.Class != elf.ELFCLASS64 {
		return nil, fmt.Errorf("ELF file for %v %v, want 64-bit RISC-V", f.Machine, f.Class)
	}
	needs, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read ELF file: %w", err)
	}
	for _, s := range f.Progs {
		if s.Type != elf.PT_INTERP || s.Filesz > 4096 {
			continue
		}
		interpreter := make([]byte, s.Filesz)
		if _, err := s.ReadAt(interpreter, 0); err != nil {
			return nil, fmt.Errorf("read ELF file: %w", err)
		}
		needs = append(needs, strings.TrimRight(string(interpreter), "\x00"))
	}
	return needs, nil
}
