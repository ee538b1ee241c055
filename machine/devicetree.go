package machine

import (
	"fmt"

	"understudy/machine/fdt"
	"understudy/machine/mem"
	"understudy/machine/plic"
	"understudy/machine/rtc"
	"understudy/machine/uart"
)

// timebaseHz is the frequency of the time CSR: it counts nanoseconds.
const timebaseHz = 1_000_000_000

// deviceTree describes the board to the guest (Devicetree Specification 0.4; Linux's bindings for riscv
// cpus, sifive,plic, ns16550a, google,goldfish-rtc and virtio,mmio).
func (m *Machine) deviceTree(initrd uint64) ([]byte, error) {
	b := fdt.New()
	intc, plicHandle := b.NewPhandle(), b.NewPhandle()

	b.BeginNode("")
	b.PropU32("#address-cells", 2)
	b.PropU32("#size-cells", 2)
	b.PropString("compatible", "understudy,board")
	b.PropString("model", "understudy")

	b.BeginNode("chosen")
	b.PropString("bootargs", m.cfg.Cmdline)
	b.PropString("stdout-path", fmt.Sprintf("/soc/serial@%x", uartBase))
	b.PropBytes("rng-seed", m.cfg.Seed[:])
	if n := uint64(len(m.cfg.Initrd)); n > 0 {
		b.PropU64("linux,initrd-start", initrd)
		b.PropU64("linux,initrd-end", initrd+n)
	}
	b.EndNode()

	b.BeginNode(fmt.Sprintf("memory@%x", uint64(mem.Base)))
	b.PropString("device_type", "memory")
	b.PropU64s("reg", mem.Base, m.cfg.MemBytes)
	b.EndNode()

	b.BeginNode("cpus")
	b.PropU32("#address-cells", 1)
	b.PropU32("#size-cells", 0)
	b.PropU32("timebase-frequency", timebaseHz)
	b.BeginNode("cpu@0")
	b.PropString("device_type", "cpu")
	b.PropU32("reg", 0)
	b.PropString("status", "okay")
	b.PropString("compatible", "riscv")
	b.PropString("riscv,isa", "rv64imafdc_zicntr_zicsr_zifencei_sstc")
	b.PropString("riscv,isa-base", "rv64i")
	b.PropStrings("riscv,isa-extensions", "i", "m", "a", "f", "d", "c", "zicntr", "zicsr", "zifencei", "sstc")
	b.PropString("mmu-type", "riscv,sv39")
	b.BeginNode("interrupt-controller")
	b.PropU32("#address-cells", 0)
	b.PropU32("#interrupt-cells", 1)
	b.PropEmpty("interrupt-controller")
	b.PropString("compatible", "riscv,cpu-intc")
	b.PropPhandle(intc)
	b.EndNode()
	b.EndNode()
	b.EndNode()

	b.BeginNode("soc")
	b.PropU32("#address-cells", 2)
	b.PropU32("#size-cells", 2)
	b.PropString("compatible", "simple-bus")
	b.PropEmpty("ranges")

	b.BeginNode(fmt.Sprintf("plic@%x", plicBase))
	b.PropStrings("compatible", "sifive,plic-1.0.0", "riscv,plic0")
	b.PropU32("#address-cells", 0)
	b.PropU32("#interrupt-cells", 1)
	b.PropEmpty("interrupt-controller")
	b.PropCells("interrupts-extended", intc, 9)
	b.PropU64s("reg", plicBase, plic.WindowBytes)
	b.PropU32("riscv,ndev", plic.Sources)
	b.PropPhandle(plicHandle)
	b.EndNode()

	dev := func(name string, base, size uint64, irq uint32, compatible ...string) {
		b.BeginNode(fmt.Sprintf("%s@%x", name, base))
		b.PropStrings("compatible", compatible...)
		b.PropU64s("reg", base, size)
		b.PropU32("interrupt-parent", plicHandle)
		b.PropU32("interrupts", irq)
	}
	dev("rtc", rtcBase, rtc.WindowBytes, rtcIRQ, "google,goldfish-rtc")
	b.EndNode()
	dev("serial", uartBase, uart.WindowBytes, uartIRQ, "ns16550a")
	b.PropU32("clock-frequency", 3_686_400)
	b.EndNode()
	slots := uint64(2 + len(m.nets) + len(m.disks))
	for i := range slots {
		dev("virtio_mmio", virtioBase+i*virtioStride, virtioStride, uint32(virtioIRQ+i), "virtio,mmio")
		b.EndNode()
	}
	b.EndNode()

	b.EndNode()
	return b.Bytes()
}
