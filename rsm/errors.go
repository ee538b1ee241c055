package rsm

import "errors"

// ErrNotPrimary says that this server does not answer: ask the one that Status or the view service names. Nothing was executed.
var ErrNotPrimary = errors.New("not the primary")

// ErrUnknown says that this server lost its part, or ctx ended, when the operation was under way: a command may have been
// executed, or may yet be.
var ErrUnknown = errors.New("outcome unknown")

// ErrTooLarge reports a command of more than MaxCommandBytes.
var ErrTooLarge = errors.New("command is too large")

// ErrHalted is wrapped by Run's error when this life has lost its part: the other side won the view, or they diverged.
var ErrHalted = errors.New("halted")

// ErrBusy says that the machine is being replaced.
var ErrBusy = errors.New("state is on its way")
