package main

import (
	"context"
	"errors"
	"io"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"wsstream.interop/go/host"
)

// hostRuntime is a container runtime without containers.
type hostRuntime struct {
	// What attach runs.
	main []string
}

func (hostRuntime) Exec(ctx context.Context, _ string, argv []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return host.Run(ctx, argv, in, out, errs, tty, resize)
}

func (r hostRuntime) Attach(ctx context.Context, id string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return r.Exec(ctx, id, r.main, in, out, errs, tty, resize)
}

func (hostRuntime) PortForward(context.Context, string, int32, io.ReadWriteCloser) error {
	return errors.New("this server forwards no ports")
}
