// Package logchannel is the connection between a primary and its backup, whatever they replicate: frames, the messages
// of package replica in them, the handshake, and a writer that never makes the one wait who steps the core.
//
// A channel carries frames: a 32-bit big-endian length of what follows the head, a CRC-32C of it (32 bits, big
// endian), then one byte that says what the frame is, then its content. Dial and Hear make a connection with certificates,
// if there are any, and exchange Hello and Welcome; Channel.Send, SendFrame and Receive do the rest.
package logchannel
