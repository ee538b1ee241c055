// Package agent is the host process: the part of one machine in a fleet. It asks the control process what is to run here,
// runs each replica in a process of its own, so that one machine's end is not another's, and tells control how they are.
//
// Start it with New and Run. The caller owes a listener for the agent's own API, and an identity unless everything stays
// on loopback. The agent decides nothing about views: it starts lives, ends them and reports.
//
// Its processes die with it: they are told so by the kernel (PR_SET_PDEATHSIG), so that the death of the agent stands for
// the death of the host and no replica runs that nobody watches. A planned restart of the agent therefore ends the
// replicas of this host: drain it first.
package agent
