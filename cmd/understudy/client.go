package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	api "understudy/api/understudy/v1"
	"understudy/api/understudy/v1/understudyv1connect"
	"understudy/internal/control"
)

// Environment of the commands that speak to control. A flag goes before it.
const (
	envControl  = "UNDERSTUDY_CONTROL"
	envInsecure = "UNDERSTUDY_INSECURE"
	envTLSDir   = "UNDERSTUDY_TLS_DIR"
)

// defaultControl is where control listens, and is looked for.
const defaultControl = "127.0.0.1:7600"

func controlDefault() string {
	if a := os.Getenv(envControl); a != "" {
		return a
	}
	return defaultControl
}

func insecureDefault() bool { return os.Getenv(envInsecure) == "1" }

// clientFlags say which control a command asks, and as whom.
type clientFlags struct {
	control, tlsDir, as string
	insecure            bool
}

func (o *clientFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.control, "control", controlDefault(), "where control is: host:port (environment: "+envControl+")")
	f.BoolVar(&o.insecure, "insecure", insecureDefault(), "without certificates; only to loopback (environment: "+envInsecure+"=1)")
	f.StringVar(&o.tlsDir, "tls-dir", os.Getenv(envTLSDir), "directory with ca.pem and a user's certificate and key (environment: "+envTLSDir+")")
	f.StringVar(&o.as, "as", control.UserName, "name of the user's certificate: "+control.UserName+" or "+control.UserName+"-SOMETHING")
}

// fleet is a connection to control.
type fleet struct {
	understudyv1connect.MachineServiceClient
	address string
}

// errCertificates says that a command was told neither how to prove who it is nor that it need not.
func errCertificates(what string) error {
	return withHint(fmt.Errorf("%s needs certificates, or to be told that it may do without", what),
		"--insecure (or %s=1) to try it on this machine's loopback, or --tls-dir DIR with certificates from: understudy cert", envInsecure)
}

func (o *clientFlags) dial() (*fleet, error) {
	address, scheme := o.control, "http"
	if s, rest, found := strings.Cut(address, "://"); found {
		if s != "http" && s != "https" {
			return nil, fmt.Errorf("address of control %q: want host:port", o.control)
		}
		address = strings.TrimSuffix(rest, "/")
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
	}
	switch {
	case o.tlsDir != "":
		id, err := identity(o.tlsDir, o.as)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = id.Client(control.Name)
		scheme = "https"
	case !o.insecure:
		return nil, errCertificates("a command to control")
	default:
		if err := loopbackOnly(address); err != nil {
			return nil, err
		}
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("address of control %q: want host:port", o.control)
	}
	base := url.URL{Scheme: scheme, Host: address}
	return &fleet{understudyv1connect.NewMachineServiceClient(&http.Client{Transport: transport}, base.String()), address}, nil
}

// explain makes an error of the API one for people.
func (f *fleet) explain(err error) error {
	var e *connect.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return withHint(fmt.Errorf("reach control at %s: %w", f.address, op.Err),
			"understudy control --insecure, or --control HOST:PORT (or %s) if it is elsewhere", envControl)
	}
	text := e.Message()
	if try := control.Try(err); try != "" {
		return &hint{&apiError{e, text}, try}
	}
	return &apiError{e, text}
}

// apiError is an error of the API without the code before its text.
type apiError struct {
	error
	text string
}

func (e *apiError) Error() string { return e.text }
func (e *apiError) Unwrap() error { return e.error }

// isAway tells whether control, and not what it said, was the trouble: asking again may help.
func isAway(err error) bool {
	c := connect.CodeOf(err)
	return c == connect.CodeUnavailable || c == connect.CodeUnknown && !errors.Is(err, context.Canceled) ||
		c == connect.CodeAborted && strings.Contains(err.Error(), "EOF") || c == connect.CodeInternal
}

// outputFlag is -o, checked by outputFormat.
func outputFlag(f *pflag.FlagSet, format *string) {
	f.StringVarP(format, "output", "o", "table", "table or json")
}

func outputFormat(format string) error {
	if format != "table" && format != "json" {
		return fmt.Errorf("output %q: want table or json", format)
	}
	return nil
}

// completeMachines offers the names of machines that keep returns true for.
func completeMachines(o *clientFlags, keep func(*api.Machine) bool) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		names, _ := o.names(c.Context(), func(ctx context.Context, f *fleet) (names []string, err error) {
			r, err := f.ListMachines(ctx, &api.ListMachinesRequest{All: true})
			for _, m := range r.GetMachines() {
				if keep == nil || keep(m) {
					names = append(names, m.GetSpec().GetName())
				}
			}
			return names, err
		})
		names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(args, n) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeHosts offers the names of hosts, for one argument.
func completeHosts(o *clientFlags) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, _ := o.names(c.Context(), func(ctx context.Context, f *fleet) (names []string, err error) {
			r, err := f.ListHosts(ctx, &api.ListHostsRequest{})
			for _, h := range r.GetHosts() {
				names = append(names, h.Name)
			}
			return names, err
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// names asks for names, for completion: a second at most, and errors are nobody's business.
func (o *clientFlags) names(ctx context.Context, ask func(context.Context, *fleet) ([]string, error)) ([]string, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	f, err := o.dial()
	if err != nil {
		return nil, err
	}
	return ask(ctx, f)
}

func isLive(m *api.Machine) bool { return m.State != "stopped" && m.State != "ended" }

// notSent tells whether a call never reached control.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
