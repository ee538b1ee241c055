// Package disk is a guest's disk on this host: a raw file and the worker that carries out the machine's
// requests on it, in the order in which they left the machine.
package disk
