package image

import (
	"fmt"
	"net/netip"
	"strings"
)

// Params are the parameters that the init script takes from the kernel's command line. Zero values are left out.
type Params struct {
	// IP is the guest's address and prefix on eth0. DHCP asks the LAN instead, which costs a second or more of boot.
	IP   netip.Prefix
	DHCP bool
	// Gateway and DNS are reached through eth0.
	Gateway, DNS netip.Addr
	Hostname     string
	// Run is a shell command that takes the place of the image's service.
	Run string
	// Redis holds further arguments for redis-server.
	Redis string
	// NoData leaves the data disk alone.
	NoData bool
	// FailOnError makes the guest panic, rather than power off, when its service ends with a status other than 0.
	FailOnError bool
}

// Words gives the parameters as words of a kernel command line.
func (p Params) Words() (string, error) {
	var words []string
	add := func(key, value string) error {
		// The kernel's parser knows no escapes within quotes.
		if strings.ContainsAny(value, "\"\n\x00") {
			return fmt.Errorf("parameter %s: %q holds a quote or a line break, which a kernel command line cannot carry", key, value)
		}
		if strings.ContainsAny(value, " \t") {
			value = `"` + value + `"`
		}
		if value != "" {
			words = append(words, "understudy."+key+"="+value)
		}
		return nil
	}
	ip := ""
	switch {
	case p.DHCP:
		ip = "dhcp"
	case p.IP.IsValid():
		ip = p.IP.String()
	}
	address := func(a netip.Addr) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	data, onFail := "", ""
	if p.NoData {
		data = "none"
	}
	if p.FailOnError {
		onFail = "fail"
	}
	for _, kv := range [][2]string{
		{"ip", ip},
		{"gw", address(p.Gateway)},
		{"dns", address(p.DNS)},
		{"hostname", p.Hostname},
		{"data", data},
		{"onfail", onFail},
		{"redis", p.Redis},
		{"run", p.Run},
	} {
		if err := add(kv[0], kv[1]); err != nil {
			return "", err
		}
	}
	return strings.Join(words, " "), nil
}
