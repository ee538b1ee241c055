package debian

import (
	"fmt"
	"slices"
	"strings"
)

// relation is one "name (op version)" of a dependency field.
type relation struct {
	name, op, version string
}

// parseRelations reads a Depends-like field: groups that must all hold, of alternatives of which one must. Architecture
// qualifiers ("perl:any") are dropped: one architecture is all there is here. Source: Debian Policy, 7.1.
func parseRelations(field string) [][]relation {
	var groups [][]relation
	for group := range strings.SplitSeq(field, ",") {
		var alternatives []relation
		for alternative := range strings.SplitSeq(group, "|") {
			name, constraint, _ := strings.Cut(strings.TrimSpace(alternative), "(")
			name, _, _ = strings.Cut(strings.TrimSpace(name), ":")
			name, _, _ = strings.Cut(name, " ") // "[arch]" and "<profile>" occur in source packages only
			if name == "" {
				continue
			}
			rel := relation{name: name}
			constraint, _, _ = strings.Cut(constraint, ")")
			if constraint = strings.TrimSpace(constraint); constraint != "" {
				i := strings.IndexFunc(constraint, func(r rune) bool { return !strings.ContainsRune("<>=", r) })
				if i < 0 {
					i = len(constraint)
				}
				rel.op, rel.version = constraint[:i], strings.TrimSpace(constraint[i:])
			}
			alternatives = append(alternatives, rel)
		}
		if len(alternatives) > 0 {
			groups = append(groups, alternatives)
		}
	}
	return groups
}

// find gives a package that satisfies rel: the one of that name, or else the first that provides it.
func (x *Index) find(rel relation, chosen map[string]*Package) *Package {
	if p := x.byName[rel.name]; p != nil && satisfies(p.Version, rel.op, rel.version) {
		return p
	}
	var first *Package
	for _, v := range x.provides[rel.name] {
		// An unversioned Provides satisfies no versioned dependency (Policy 7.5).
		if rel.op != "" && (v.version == "" || !satisfies(v.version, rel.op, rel.version)) {
			continue
		}
		if chosen[v.p.Name] != nil {
			return v.p
		}
		// The compact index keeps no order, so take the smallest name: the same choice every time.
		if first == nil || v.p.Name < first.Name {
			first = v.p
		}
	}
	return first
}

// Closure gives the wanted packages and all that they need (Pre-Depends, Depends), sorted by name. Of alternatives the
// first that the archive has is taken, unless another one is in already. Packages named in exclude, and what only
// they need, are left out: a caller that takes files and runs no maintainer scripts needs no debconf.
func (x *Index) Closure(wanted, exclude []string) ([]*Package, error) {
	chosen := map[string]*Package{}
	type need struct {
		alternatives []relation
		by           string
	}
	var queue []need
	for _, name := range wanted {
		queue = append(queue, need{alternatives: []relation{{name: name}}})
	}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		if n.by != "" && slices.ContainsFunc(n.alternatives, func(r relation) bool { return slices.Contains(exclude, r.name) }) {
			continue
		}
		var pick *Package
		for _, rel := range n.alternatives {
			p := x.find(rel, chosen)
			if p == nil {
				continue
			}
			if chosen[p.Name] != nil {
				pick = p
				break
			}
			if pick == nil {
				pick = p
			}
		}
		if pick == nil {
			err := fmt.Errorf("%w: %q", ErrNoPackage, n.alternatives[0].name)
			if n.by != "" {
				err = fmt.Errorf("%w, which %s needs", err, n.by)
			}
			return nil, err
		}
		if chosen[pick.Name] != nil || n.by != "" && slices.Contains(exclude, pick.Name) {
			continue
		}
		chosen[pick.Name] = pick
		for _, alternatives := range parseRelations(pick.Depends) {
			queue = append(queue, need{alternatives, pick.Name})
		}
	}
	list := make([]*Package, 0, len(chosen))
	for _, p := range chosen {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *Package) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}
