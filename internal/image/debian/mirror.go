package debian

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// MirrorVariable is the environment variable that names the archive, as in http://HOST/debian.
const MirrorVariable = "UNDERSTUDY_MIRROR"

const mirrorHint = "set " + MirrorVariable + " or --mirror to the URI of a Debian archive, as in http://MIRROR/debian"

// FindMirror gives the archive's base URI without a trailing slash: explicit when it is set, else the environment's,
// else what apt on this host is configured with.
func FindMirror(explicit string) (string, error) {
	for _, v := range []string{explicit, os.Getenv(MirrorVariable)} {
		if v == "" {
			continue
		}
		if !isHTTP(v) {
			return "", hint(fmt.Errorf("mirror %q is no http or https URI", v), mirrorHint)
		}
		return strings.TrimRight(v, "/"), nil
	}
	if m := aptMirror("/etc/apt"); m != "" {
		return m, nil
	}
	return "", hint(fmt.Errorf("%w: neither --mirror nor %s is set and apt's configuration names none", ErrNoMirror, MirrorVariable), mirrorHint)
}

func isHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// aptMirror reads sources.list(5) files below etcApt ("/etc/apt"), in apt's order, and gives the most likely URI of a
// Debian main archive, "" when there is none.
func aptMirror(etcApt string) string {
	files := []string{filepath.Join(etcApt, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, _ := filepath.Glob(filepath.Join(etcApt, "sources.list.d", pattern))
		files = append(files, more...)
	}
	best, bestRank := "", 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		var uris []string
		if strings.HasSuffix(name, ".sources") {
			uris = urisOfSources(string(data))
		} else {
			uris = urisOfList(string(data))
		}
		for _, uri := range uris {
			for _, u := range expandMirrorList(uri) {
				if r := mirrorRank(u); r > bestRank {
					best, bestRank = u, r
				}
			}
		}
	}
	return strings.TrimRight(best, "/")
}

// mirrorRank is 2 for a URI whose path ends in /debian, 1 for one whose last part speaks of Debian otherwise, 0 for
// what is no main archive (security updates, other vendors).
func mirrorRank(uri string) int {
	if !isHTTP(uri) {
		return 0
	}
	u, _ := url.Parse(uri)
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	last := strings.ToLower(parts[len(parts)-1])
	switch {
	case last == "debian":
		return 2
	case strings.Contains(last, "debian") && !strings.Contains(last, "security") && !strings.Contains(last, "ports") &&
		!strings.Contains(last, "backports") && !strings.Contains(last, "debug"):
		return 1
	}
	return 0
}

// urisOfList reads one-line entries: deb [options] URI suite component...
func urisOfList(text string) []string {
	var uris []string
	scan := bufio.NewScanner(strings.NewReader(text))
	for scan.Scan() {
		line, _, _ := strings.Cut(scan.Text(), "#")
		if open := strings.IndexByte(line, '['); open >= 0 {
			if end := strings.IndexByte(line, ']'); end > open {
				line = line[:open] + " " + line[end+1:]
			}
		}
		f := strings.Fields(line)
		if len(f) >= 4 && f[0] == "deb" && slices.Contains(f[3:], "main") {
			uris = append(uris, f[1])
		}
	}
	return uris
}

// urisOfSources reads deb822 entries.
func urisOfSources(text string) []string {
	var uris []string
	c := newControlReader(strings.NewReader(text))
	for {
		f, err := c.next()
		if err != nil {
			return uris // a damaged file is apt's to complain about
		}
		if strings.EqualFold(f["enabled"], "no") || !slices.Contains(strings.Fields(f["types"]), "deb") ||
			!slices.Contains(strings.Fields(f["components"]), "main") {
			continue
		}
		uris = append(uris, strings.Fields(f["uris"])...)
	}
}

// expandMirrorList follows "mirror+file:/path" (apt-transport-mirror(1)), which Debian's cloud images use.
func expandMirrorList(uri string) []string {
	name, ok := strings.CutPrefix(uri, "mirror+file:")
	if !ok {
		return []string{uri}
	}
	data, err := os.ReadFile("/" + strings.TrimLeft(name, "/"))
	if err != nil {
		return nil
	}
	var uris []string
	for line := range strings.SplitSeq(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			uris = append(uris, f[0])
		}
	}
	return uris
}

// aptProxy gives what apt.conf(5) below etcApt has for Acquire::SCHEME::Proxy; later files win, as with apt. ok tells
// whether the option is there; an empty URI or "DIRECT" means no proxy.
func aptProxy(etcApt, scheme string) (uri string, ok bool) {
	files, _ := filepath.Glob(filepath.Join(etcApt, "apt.conf.d", "*"))
	files = append(files, filepath.Join(etcApt, "apt.conf"))
	want := "acquire::" + scheme + "::proxy"
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for key, value := range aptOptions(string(data)) {
			if strings.EqualFold(key, want) {
				uri, ok = value, true
			}
		}
	}
	return uri, ok
}

// aptOptions yields the options of an apt.conf(5) text with their full names ("Acquire::http::Proxy") and values.
func aptOptions(text string) func(yield func(key, value string) bool) {
	return func(yield func(string, string) bool) {
		var scopes, words []string // names of the open braces; words of the statement so far
		name := func() string { return strings.Join(append(slices.Clone(scopes), words[:1]...), "::") }
		for text != "" {
			switch c := text[0]; {
			case c == '#' || strings.HasPrefix(text, "//"):
				_, text, _ = strings.Cut(text, "\n")
			case strings.HasPrefix(text, "/*"):
				_, text, _ = strings.Cut(text[2:], "*/")
			case c == '"':
				var value string
				value, text, _ = strings.Cut(text[1:], `"`)
				words = append(words, value)
			case c == '{':
				scope := ""
				if len(words) > 0 {
					scope = words[0]
				}
				scopes, words, text = append(scopes, scope), nil, text[1:]
			case c == '}':
				scopes, words, text = scopes[:max(0, len(scopes)-1)], nil, text[1:]
			case c == ';':
				if len(words) == 2 && !yield(name(), words[1]) {
					return
				}
				words, text = nil, text[1:]
			case strings.ContainsRune(" \t\r\n", rune(c)):
				text = text[1:]
			default:
				i := strings.IndexAny(text, " \t\r\n\"{};")
				if i < 0 {
					i = len(text)
				}
				words, text = append(words, text[:i]), text[i:]
			}
		}
	}
}
