// Package bench measures: how fast the machine executes guest code, beside QEMU on the same code, and what
// protection costs. Its sections are run by cmd/bench and are written as Markdown and JSON.
//
// A new section is a file with a [Definition] that init hands to [Register].
package bench

import (
	"context"
	"io"
	"slices"
	"strings"
)

// Options say how much to measure.
type Options struct {
	Rounds int       // alternating rounds; the best of each counts
	Only   []string  // names of kernels, or of whatever a section has several of; all when empty
	Scale  float64   // how much work each measurement does; 1 is about half a second of QEMU's time
	Log    io.Writer // narration
}

// Wants tells whether the options select the name.
func (o *Options) Wants(name string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, name) }

// Section is the result of one section.
type Section struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Notes say how it was measured, a paragraph each.
	Notes []string `json:"notes"`
	Table Table    `json:"table"`
	Parts []Part   `json:"parts,omitempty"`
	// Data is the section's numbers, for programs.
	Data any `json:"data"`
}

// Definition is one section that can be measured.
type Definition struct {
	Name string
	Run  func(ctx context.Context, o Options) (*Section, error)
}

var definitions []Definition

// Register adds a section. It is called from init functions.
func Register(d Definition) {
	definitions = append(definitions, d)
	slices.SortFunc(definitions, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
}

// Definitions lists the sections in the order of their names.
func Definitions() []Definition { return slices.Clone(definitions) }

// Table is rows of text under a header.
type Table struct {
	Header []string   `json:"header"`
	Rows   [][]string `json:"rows"`
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }
