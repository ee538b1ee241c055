// Package torture harms a whole fleet of real processes on one host, again and again, and checks that a protected Redis
// guest comes through: control, its LAN daemon and three hosts are children of this process; clients write over
// connections that are opened once and never again.
//
// A Schedule, made from a seed, says what is harmed next and for how long. Run carries it out: after each harm it waits
// until the guest is protected again, then has every client read back all that was acknowledged to it. A ledger per
// client knows what each reply must be, so that an effect that was lost, doubled or done out of order shows in the
// first reply that it touches.
//
// The same seed gives the same harms in the same order. When they meet the guest is decided by the host, so that a
// failure may need several runs to come back.
package torture
