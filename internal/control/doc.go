// Package control is the fleet's one point of contact: arbiter, view service and control API in one process, on one
// port.
//
//	/v1/groups...            the arbiter (package httparb), when the registers are kept here
//	/v1/views..., /v1/counts the view service (package httpview)
//	/understudy.v1...        the control API: Connect, gRPC and JSON
//	/metrics                 Prometheus
//	/healthz                 {"status": "ok"}
//
// Control keeps little: what users asked for, which hosts run a replica of it, which hosts are drained. It writes that
// to its Store before anybody hears of it. Everything else it is told: views by the registers, the state of replicas
// by the hosts' reports. So it may be killed and started again at any time; machines run on meanwhile, protected,
// only nothing new begins. Hosts come to it (HostService.Work) and are told what to run; control comes to a host only
// to hand a machine over and to reach its console.
//
// One loop (Control.loop) looks at everything ten times a second and whenever something happened, under one lock. What
// takes time (a call of a host, of the LAN daemon) runs beside it and comes back into it.
//
// Only one control may use a Store at a time.
package control
