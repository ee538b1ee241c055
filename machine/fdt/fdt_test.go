package fdt

import (
	"bytes"
	"encoding/binary"
	"os/exec"
	"strings"
	"testing"
)

func sample() *Builder {
	b := New()
	b.Reserve(0x8000_0000, 0x1000)
	b.BeginNode("")
	b.PropU32("#address-cells", 2)
	b.PropU32("#size-cells", 2)
	b.PropStrings("compatible", "riscv-virtio", "simple-bus")
	b.BeginNode("chosen")
	b.PropString("bootargs", "console=hvc0")
	b.PropU64("linux,initrd-start", 0x1_8000_0000)
	b.EndNode()
	intc := b.NewPhandle()
	b.BeginNode("soc")
	b.PropU32("#address-cells", 2)
	b.PropU32("#size-cells", 2)
	b.PropEmpty("ranges")
	b.BeginNode("uart@10000000")
	b.PropU64s("reg", 0x1000_0000, 8)
	b.PropCells("interrupts-extended", intc, 10)
	b.PropBytes("blob", []byte{1, 2, 3, 4, 5})
	b.EndNode()
	b.BeginNode("plic@c000000")
	b.PropEmpty("interrupt-controller")
	b.PropU32("#interrupt-cells", 1)
	b.PropPhandle(intc)
	b.EndNode()
	b.EndNode()
	b.EndNode()
	return b
}

func TestHeader(t *testing.T) {
	p, err := sample().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	w := func(i int) uint32 { return binary.BigEndian.Uint32(p[4*i:]) }
	if w(0) != magic || w(1) != uint32(len(p)) || w(5) != 17 || w(6) != 16 {
		t.Errorf("header %x", p[:headerBytes])
	}
	if w(4)%8 != 0 || w(2)%4 != 0 || w(2)+w(9) != w(3) || w(3)+w(8) != w(1) {
		t.Errorf("blocks %x", p[:headerBytes])
	}
	again, _ := sample().Bytes()
	if !bytes.Equal(p, again) {
		t.Error("the same tree gives other bytes")
	}
}

// TestDTC has the device tree compiler read the blob.
func TestDTC(t *testing.T) {
	if _, err := exec.LookPath("dtc"); err != nil {
		t.Skip("dtc is not installed")
	}
	p, err := sample().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dtc", "-I", "dtb", "-O", "dts")
	cmd.Stdin = bytes.NewReader(p)
	var narration strings.Builder
	cmd.Stderr = &narration
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("dtc: %v\n%s", err, narration.String())
	}
	const want = `/dts-v1/;

/memreserve/	0x0000000080000000 0x0000000000001000;
/ {
	#address-cells = <0x02>;
	#size-cells = <0x02>;
	compatible = "riscv-virtio\0simple-bus";

	chosen {
		bootargs = "console=hvc0";
		linux,initrd-start = <0x01 0x80000000>;
	};

	soc {
		#address-cells = <0x02>;
		#size-cells = <0x02>;
		ranges;

		uart@10000000 {
			reg = <0x00 0x10000000 0x00 0x08>;
			interrupts-extended = <0x01 0x0a>;
			blob = [01 02 03 04 05];
		};

		plic@c000000 {
			interrupt-controller;
			#interrupt-cells = <0x01>;
			phandle = <0x01>;
		};
	};
};
`
	if string(out) != want {
		t.Errorf("got\n%s\nnarration: %s", out, narration.String())
	}
}

func TestMistakes(t *testing.T) {
	for name, build := range map[string]func(b *Builder){
		"nothing":                 func(b *Builder) {},
		"open node":               func(b *Builder) { b.BeginNode("") },
		"too many ends":           func(b *Builder) { b.BeginNode(""); b.EndNode(); b.EndNode() },
		"two roots":               func(b *Builder) { b.BeginNode(""); b.EndNode(); b.BeginNode(""); b.EndNode() },
		"root with a name":        func(b *Builder) { b.BeginNode("x"); b.EndNode() },
		"node without a name":     func(b *Builder) { b.BeginNode(""); b.BeginNode(""); b.EndNode(); b.EndNode() },
		"property outside":        func(b *Builder) { b.PropEmpty("x"); b.BeginNode(""); b.EndNode() },
		"property after children": func(b *Builder) { b.BeginNode(""); b.BeginNode("x"); b.EndNode(); b.PropEmpty("y"); b.EndNode() },
	} {
		b := New()
		build(b)
		if p, err := b.Bytes(); err == nil || p != nil {
			t.Errorf("%s: no error", name)
		}
	}
}
