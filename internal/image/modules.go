package image

import (
	"bytes"
	"debug/elf"
	"fmt"
	"path"
	"strings"

	"understudy/internal/image/debian"
)

// moduleMaxBytes bounds one decompressed module; amdgpu, the largest of Debian's, has some 40 MB.
const moduleMaxBytes = 128 << 20

// moduleSet holds the kernel's modules by normalised name ("virtio_rng" for virtio-rng.ko.xz).
type moduleSet struct {
	files   map[string]debian.File
	builtin map[string]bool
}

func moduleName(file string) string {
	name := path.Base(file)
	name, _, _ = strings.Cut(name, ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func newModuleSet(files []debian.File) moduleSet {
	s := moduleSet{files: map[string]debian.File{}, builtin: map[string]bool{}}
	for _, f := range files {
		switch {
		case strings.Contains(path.Base(f.Name), ".ko"):
			s.files[moduleName(f.Name)] = f
		case path.Base(f.Name) == "modules.builtin":
			for line := range strings.Lines(string(f.Data)) {
				s.builtin[moduleName(strings.TrimSpace(line))] = true
			}
		}
	}
	return s
}

type module struct {
	name string
	data []byte // decompressed and slimmed
}

// order gives the modules of a group in the order in which the kernel can load them: what a module depends on before
// itself. A name that ends in "?" may be missing; the kernel's own may be built in.
func (s moduleSet) order(group []string) ([]module, error) {
	var list []module
	state := map[string]int{} // 1: being visited, 2: listed
	var visit func(name, by string) error
	visit = func(name, by string) error {
		name, optional := strings.CutSuffix(name, "?")
		name = strings.ReplaceAll(name, "-", "_")
		if state[name] == 2 || s.builtin[name] {
			return nil
		}
		if state[name] == 1 {
			return fmt.Errorf("kernel module %s depends on itself", name)
		}
		f, ok := s.files[name]
		if !ok {
			if optional {
				return nil
			}
			return fmt.Errorf("kernel module %s, which %s needs, is not in the kernel's package", name, by)
		}
		state[name] = 1
		data := f.Data
		if strings.HasSuffix(f.Name, ".xz") {
			var err error
			if data, err = debian.DecompressXZ(data, moduleMaxBytes); err != nil {
				return fmt.Errorf("kernel module %s: %w", name, err)
			}
		}
		depends, err := moduleDepends(data)
		if err != nil {
			return fmt.Errorf("kernel module %s: %w", name, err)
		}
		for _, d := range depends {
			if err := visit(d, name); err != nil {
				return err
			}
		}
		if slim, err := slimModule(data); err == nil {
			data = slim
		} // else it is of a form we do not know: the kernel takes it as it is
		state[name] = 2
		list = append(list, module{name, data})
		return nil
	}
	for _, name := range group {
		if err := visit(name, "the recipe"); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// moduleDepends reads "depends=" of the module's .modinfo section. Soft dependencies go by aliases that only depmod
// resolves; recipes name what they stand for.
func moduleDepends(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read ELF file: %w", err)
	}
	if f.Machine != elf.EM_RISCV || f.Type != elf.ET_REL {
		return nil, fmt.Errorf("ELF file for %v, want a RISC-V module", f.Machine)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("no .modinfo section")
	}
	info, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("read .modinfo: %w", err)
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
