package control

import (
	"errors"
	"fmt"

	"connectrpc.com/connect"

	api "understudy/api/understudy/v1"
)

// refuse makes an error of the API, with what to do about it if try is not empty.
func refuse(code connect.Code, try, format string, args ...any) error {
	e := connect.NewError(code, fmt.Errorf(format, args...))
	if try != "" {
		if d, err := connect.NewErrorDetail(&api.Hint{Try: try}); err == nil {
			e.AddDetail(d)
		}
	}
	return e
}

// Try returns what an error of the API says to do about it, or "".
func Try(err error) string {
	var e *connect.Error
	if !errors.As(err, &e) {
		return ""
	}
	for _, d := range e.Details() {
		if v, err := d.Value(); err == nil {
			if h, ok := v.(*api.Hint); ok {
				return h.Try
			}
		}
	}
	return ""
}

func errEnding() error {
	return connect.NewError(connect.CodeUnavailable, errors.New("control is ending"))
}

func errNoMachine(name string) error {
	return refuse(connect.CodeNotFound, "understudy ps -a", "there is no machine %q", name)
}

func errNoHost(name string) error {
	return refuse(connect.CodeNotFound, "understudy hosts", "there is no host %q", name)
}

// unavailable is the API's error for something that may work later.
func unavailable(err error) error { return connect.NewError(connect.CodeUnavailable, err) }

// plain is an error's text without the code that Connect puts before it.
func plain(err error) string {
	var e *connect.Error
	if errors.As(err, &e) {
		return e.Message()
	}
	if err == nil {
		return "no answer"
	}
	return err.Error()
}
